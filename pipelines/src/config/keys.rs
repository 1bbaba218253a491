//! The dotted keys of a config, from its JSON schema.

use schemars::{JsonSchema, schema_for};
use serde_json::Value;

/// Least similarity, of 1, at which a key is suggested for another.
const SIMILAR: f64 = 0.5;

/// Every dotted key of a config type, tables included; `data.columns.*` stands for any name there.
#[derive(Debug)]
pub(super) struct Keys(Vec<String>);

impl Keys {
    /// Reads the keys of `T` from its schema.
    pub(super) fn of<T: JsonSchema>() -> Self {
        let schema = schema_for!(T);
        let root = schema.as_value();
        let mut keys = Vec::new();
        collect(root, root, "", &mut keys);
        keys.sort();
        keys.dedup();
        Self(keys)
    }

    /// Returns whether `key` is one of them.
    pub(super) fn contains(&self, key: &str) -> bool {
        let parent = key.rsplit_once('.').map(|(parent, _)| parent);
        self.0.iter().any(|known| {
            known == key
                || known
                    .strip_suffix(".*")
                    .is_some_and(|open| Some(open) == parent)
        })
    }

    /// Returns the key that is most like `key`; a key of the same last segment counts as very like it.
    pub(super) fn nearest(&self, key: &str) -> Option<&str> {
        let last = |key: &str| key.rsplit('.').next().map(str::to_owned);
        let similarity = |known: &str| {
            let whole = strsim::normalized_damerau_levenshtein(known, key);
            let same_last = last(known) == last(key);
            if same_last {
                whole.max(SIMILAR) + 0.5 * whole
            } else {
                whole
            }
        };
        self.0
            .iter()
            .filter(|known| !known.ends_with(".*"))
            .map(|known| (similarity(known), known))
            .filter(|(similarity, _)| *similarity >= SIMILAR)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, known)| known.as_str())
    }
}

/// Adds the keys of `schema`, all of its alternatives included, below `prefix`.
fn collect(root: &Value, schema: &Value, prefix: &str, keys: &mut Vec<String>) {
    if let Some(reference) = schema["$ref"].as_str()
        && let Some(target) = root.pointer(reference.trim_start_matches('#'))
    {
        collect(root, target, prefix, keys);
    }
    for alternatives in ["oneOf", "anyOf", "allOf"] {
        for alternative in schema[alternatives].as_array().into_iter().flatten() {
            collect(root, alternative, prefix, keys);
        }
    }
    let below = |name: &str| match prefix {
        "" => name.to_owned(),
        prefix => format!("{prefix}.{name}"),
    };
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let key = below(name);
        collect(root, property, &key, keys);
        keys.push(key);
    }
    if !matches!(
        schema["additionalProperties"],
        Value::Null | Value::Bool(false)
    ) {
        keys.push(below("*"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DataConfig;

    #[test]
    fn keys_come_from_tables_variants_and_maps() {
        let keys = Keys::of::<DataConfig>();
        for key in [
            "batch",
            "image.size",
            "mask",
            "mask.spans.prob",
            "columns.image",
        ] {
            assert!(keys.contains(key), "{key} in {keys:?}");
        }
        for key in ["btach", "image.sizes", "columns.image.x", "mask.spans"] {
            assert_eq!(keys.contains(key), key == "mask.spans", "{key}");
        }
    }

    #[test]
    fn nearest_key_is_by_spelling_and_by_last_segment() {
        let keys = Keys::of::<DataConfig>();
        assert_eq!(keys.nearest("btach"), Some("batch"));
        assert_eq!(keys.nearest("sample_rate_hz"), Some("audio.sample_rate_hz"));
        assert_eq!(keys.nearest("imgae.size"), Some("image.size"));
        assert_eq!(keys.nearest("zzzzzzzz"), None);
    }
}
