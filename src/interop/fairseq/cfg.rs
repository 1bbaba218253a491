//! Reads a fairseq config, as its checkpoint holds it, key by key.

use serde_json::Value;

use crate::interop::error::ImportError;
use crate::interop::size_check::LARGEST;
use crate::model::Norm;
use crate::objective::TargetConfig;

/// Upper bound of a feature extractor's convolutions.
const MAX_LAYERS: usize = 100;

/// A table of a fairseq config, with its key path for messages.
pub(super) struct Cfg<'a> {
    pub(super) value: &'a Value,
    pub(super) place: String,
}

impl Cfg<'_> {
    /// Returns the error of a missing key.
    pub(super) fn missing(&self, key: &str) -> ImportError {
        ImportError::Fairseq(format!("{}.{key} is missing", self.place))
    }

    /// Returns the error of an unsupported value.
    pub(super) fn refuse<T>(&self, key: &str) -> Result<T, ImportError> {
        Err(ImportError::Fairseq(format!(
            "{}.{key} = {}",
            self.place, self.value[key]
        )))
    }

    pub(super) fn text(&self, key: &str) -> Result<&str, ImportError> {
        match &self.value[key] {
            Value::String(text) => Ok(text),
            Value::Null => Err(self.missing(key)),
            _ => self.refuse(key),
        }
    }

    pub(super) fn number(&self, key: &str) -> Result<f64, ImportError> {
        match &self.value[key] {
            Value::Null => Err(self.missing(key)),
            value => value.as_f64().map_or_else(|| self.refuse(key), Ok),
        }
    }

    pub(super) fn size(&self, key: &str) -> Result<usize, ImportError> {
        let number = self.number(key)?;
        if number.fract() == 0.0 && (0.0..=LARGEST as f64).contains(&number) {
            Ok(number as usize)
        } else {
            self.refuse(key)
        }
    }

    /// Returns a switch; false where the config does not have it.
    pub(super) fn is_set(&self, key: &str) -> bool {
        self.value[key].as_bool().unwrap_or(false)
    }

    pub(super) fn require_unset(&self, keys: &[&str]) -> Result<(), ImportError> {
        match keys.iter().find(|key| self.is_set(key)) {
            Some(key) => self.refuse(key),
            None => Ok(()),
        }
    }

    /// Fails if the key is given and is not `only`.
    pub(super) fn require_text(&self, key: &str, only: &str) -> Result<(), ImportError> {
        match self.value[key].as_str() {
            Some(text) if text != only => self.refuse(key),
            _ => Ok(()),
        }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        !self.value[key].is_null()
    }

    pub(super) fn table(&self, key: &str) -> Cfg<'_> {
        Cfg {
            value: &self.value[key],
            place: format!("{}.{key}", self.place),
        }
    }

    /// Returns the target config: norms of each block's output and of their average.
    pub(super) fn targets(&self) -> Result<TargetConfig, ImportError> {
        self.require_unset(&["batch_norm_target_layer", "group_norm_target_layer"])?;
        let norm = |layer: &str, instance: &str| match (self.is_set(layer), self.is_set(instance)) {
            (false, false) => Ok(Norm::None),
            (true, false) => Ok(Norm::Layer),
            (false, true) => Ok(Norm::Instance),
            // fairseq would apply one after the other.
            (true, true) => self.refuse(layer),
        };
        Ok(TargetConfig {
            top_k: Some(self.size("average_top_k_layers")?),
            blocks: None,
            output: None,
            each: norm("layer_norm_target_layer", "instance_norm_target_layer")?,
            average: norm("layer_norm_targets", "instance_norm_targets")?,
        })
    }

    /// Parses the convolutions over the waveform, `[(32, 10, 5)] + [(32, 3, 2)] * 4`: their channels,
    /// and the kernel and stride of each.
    pub(super) fn conv_layers(&self, key: &str) -> Result<(usize, Vec<[usize; 2]>), ImportError> {
        let text = self.text(key)?;
        let parsed: Option<Vec<([usize; 3], usize)>> = text
            .split('+')
            .map(|term| {
                let (layer, times) = term.split_once('*').unwrap_or((term, "1"));
                let layer = layer.trim_matches(|c: char| !c.is_ascii_digit());
                let numbers = layer.split(',').map(|number| number.trim().parse().ok());
                let numbers: Vec<usize> = numbers.collect::<Option<_>>()?;
                Some((numbers.try_into().ok()?, times.trim().parse().ok()?))
            })
            .collect();
        let Some(terms) = parsed else {
            return self.refuse(key);
        };
        // Checked before the list is expanded.
        let n_layers = terms.iter().map(|&(_, times)| times);
        if n_layers.fold(0, usize::saturating_add) > MAX_LAYERS {
            return self.refuse(key);
        }
        let layers = terms
            .iter()
            .flat_map(|&(layer, times)| std::iter::repeat_n(layer, times));
        let layers: Vec<[usize; 3]> = layers.collect();
        match layers.first() {
            Some(&[dim, ..]) if layers.iter().all(|layer| layer[0] == dim) => {
                let layers = layers.iter().map(|&[_, kernel, stride]| [kernel, stride]);
                Ok((dim, layers.collect()))
            }
            _ => self.refuse(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn impossible_sizes_are_rejected() {
        let value = json!({
            "depth": 12, "less": -1, "part": 0.5, "vast": 1e300,
            "layers": "[(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512,2,2)]",
            "endless": "[(512, 3, 2)] * 1000000000000",
            "unequal": "[(512, 3, 2)] + [(256, 3, 2)]",
        });
        let cfg = Cfg {
            value: &value,
            place: "cfg.model".to_owned(),
        };
        assert_eq!(cfg.size("depth").unwrap(), 12);
        for key in ["less", "part", "vast", "layers", "absent"] {
            let error = cfg.size(key).unwrap_err().to_string();
            assert!(error.contains(&format!("cfg.model.{key}")), "{error}");
        }
        let layers = vec![[10, 5], [3, 2], [3, 2], [3, 2], [3, 2], [2, 2]];
        assert_eq!(cfg.conv_layers("layers").unwrap(), (512, layers));
        assert!(cfg.conv_layers("endless").is_err());
        assert!(cfg.conv_layers("unequal").is_err());
    }
}
