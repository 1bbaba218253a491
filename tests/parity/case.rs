//! Golden cases: their tensors, configs and tolerances.

use crate::skip::skip;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Int, Tensor, TensorData};
use safetensors::tensor::{Dtype, SafeTensors};
use serde_json::Value;

/// A folder with `case.json`, `config.json` and tensors.
pub(crate) struct Case {
    folder: PathBuf,
    /// `case.json`: kind, method, modality and tolerances.
    description: Value,
    /// `config.json`: the config of the reference.
    pub(crate) config: Value,
}

/// A tensor of a file, converted from its element type.
#[derive(Clone)]
pub(crate) struct Golden {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f64>,
}

/// Tensors of a file by name.
pub(crate) type Goldens = BTreeMap<String, Golden>;

impl Case {
    /// Finds the cases of these kinds. Returns none and prints the reason if there is no folder.
    pub(crate) fn find(kinds: &[&str]) -> Option<Vec<Self>> {
        let root = std::env::var_os("UNDERSTUDY_PARITY").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/parity"),
            PathBuf::from,
        );
        let Ok(entries) = fs::read_dir(&root) else {
            skip(
                "parity",
                &format!("no golden tensors in {}", root.display()),
            );
            return None;
        };
        let mut folders: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        folders.sort();
        let cases = folders
            .into_iter()
            .filter(|folder| folder.join("case.json").exists())
            .map(|folder| Self {
                description: json(&folder.join("case.json")),
                config: Value::Null,
                folder,
            })
            .filter(|case| kinds.contains(&case.kind()))
            .map(|case| Self {
                config: json(&case.folder.join("config.json")),
                ..case
            })
            .collect::<Vec<_>>();
        if cases.is_empty() {
            skip(
                "parity",
                &format!("no case of {kinds:?} in {}", root.display()),
            );
        }
        Some(cases)
    }

    pub(crate) fn name(&self) -> String {
        self.folder
            .file_name()
            .unwrap()
            .to_string_lossy()
            .into_owned()
    }

    pub(crate) fn kind(&self) -> &str {
        self.description["kind"].as_str().unwrap()
    }

    /// A string of `case.json`, for example `method`.
    pub(crate) fn text(&self, key: &str) -> &str {
        self.description[key]
            .as_str()
            .unwrap_or_else(|| panic!("case.json has no string `{key}`"))
    }

    /// A tolerance of a group; 0 if the group does not have it.
    pub(crate) fn tolerance(&self, group: &str, key: &str) -> f64 {
        let group_values = &self.description["tolerance"][group];
        assert!(
            group_values.is_object(),
            "case.json has no tolerance `{group}`"
        );
        group_values[key].as_f64().unwrap_or(0.0)
    }

    /// Reads the tensors of a file.
    pub(crate) fn tensors(&self, file: &str) -> Goldens {
        self.tensors_if_any(file)
            .unwrap_or_else(|| panic!("{} has no {file}", self.name()))
    }

    /// Reads the tensors of a file that not every case has.
    pub(crate) fn tensors_if_any(&self, file: &str) -> Option<Goldens> {
        let bytes = fs::read(self.folder.join(file)).ok()?;
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        Some(
            tensors
                .iter()
                .map(|(name, view)| (name.to_owned(), golden(&view)))
                .collect(),
        )
    }

    pub(crate) fn json(&self, file: &str) -> Value {
        json(&self.folder.join(file))
    }
}

impl Golden {
    pub(crate) fn max_abs(&self) -> f64 {
        self.values
            .iter()
            .fold(0.0, |max, value| max.max(value.abs()))
    }

    /// Converts to float32 data.
    pub(crate) fn data(&self) -> TensorData {
        let values: Vec<f32> = self.values.iter().map(|&value| value as f32).collect();
        TensorData::new(values, self.shape.clone())
    }

    pub(crate) fn tensor<const D: usize>(&self, device: &Device) -> Tensor<D> {
        Tensor::from_data(self.data(), device)
    }

    /// Converts to ids.
    pub(crate) fn ids<const D: usize>(&self, device: &Device) -> Tensor<D, Int> {
        let values: Vec<i64> = self.values.iter().map(|&value| value as i64).collect();
        Tensor::from_data(TensorData::new(values, self.shape.clone()), device)
    }

    /// Counts the values of each row of `[B, T]` for which `holds` is true.
    pub(crate) fn count_per_row(&self, holds: impl Fn(f64) -> bool) -> Vec<usize> {
        let rows = self.values.chunks_exact(self.shape[1]);
        rows.map(|row| row.iter().filter(|&&value| holds(value)).count())
            .collect()
    }

    /// Converts to a mask.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.values.iter().map(|&value| value as u8).collect()
    }
}

/// Selects the tensors whose name starts with `prefix` and removes the prefix.
pub(crate) fn below(tensors: &Goldens, prefix: &str) -> BTreeMap<String, TensorData> {
    let stripped = tensors
        .iter()
        .filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?.to_owned(), tensor.data())));
    stripped.collect()
}

fn golden(view: &safetensors::tensor::TensorView<'_>) -> Golden {
    let dtype = view.dtype();
    let size = dtype.bitsize() / 8;
    let values = view.data().chunks_exact(size).map(|bytes| match dtype {
        Dtype::F64 => f64::from_le_bytes(bytes.try_into().unwrap()),
        Dtype::F32 => f64::from(f32::from_le_bytes(bytes.try_into().unwrap())),
        Dtype::F16 => half(u16::from_le_bytes(bytes.try_into().unwrap())),
        Dtype::I64 => i64::from_le_bytes(bytes.try_into().unwrap()) as f64,
        Dtype::U8 => f64::from(bytes[0]),
        other => panic!("golden tensors are not {other:?}"),
    });
    Golden {
        shape: view.shape().to_vec(),
        values: values.collect(),
    }
}

/// Converts a finite IEEE half.
fn half(bits: u16) -> f64 {
    let sign = if bits >> 15 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from(bits >> 10 & 0x1f);
    let fraction = f64::from(bits & 0x3ff) / 1024.0;
    let magnitude = match exponent {
        0 => fraction * 2_f64.powi(-14),
        _ => (1.0 + fraction) * 2_f64.powi(exponent - 15),
    };
    sign * magnitude
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}
