//! Every value of a config under its dotted key.

use std::collections::BTreeMap;

use serde::Serialize;
use toml::Value;

/// Dotted key → value, of `config` or one of its tables; of a list of tables `key[i].key`.
pub(crate) fn flatten(config: &impl Serialize) -> BTreeMap<String, Value> {
    let mut flat = BTreeMap::new();
    let table = Value::try_from(config).expect("a config holds only what TOML can say");
    walk("", table, &mut flat);
    flat
}

fn walk(prefix: &str, value: Value, flat: &mut BTreeMap<String, Value>) {
    match value {
        Value::Table(table) => {
            for (key, value) in table {
                let key = if prefix.is_empty() {
                    key
                } else {
                    format!("{prefix}.{key}")
                };
                walk(&key, value, flat);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_table) => {
            for (i, item) in items.into_iter().enumerate() {
                walk(&format!("{prefix}[{i}]"), item, flat);
            }
        }
        value => {
            flat.insert(prefix.to_owned(), value);
        }
    }
}
