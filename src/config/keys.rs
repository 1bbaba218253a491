//! The values of a config by dotted key.

use std::collections::BTreeMap;

use serde::Serialize;
use toml::Value;

/// Maps each dotted key of `config`, or of one of its tables, to its value; in a list of tables the
/// key is `key[i].key`.
pub(crate) fn flatten(config: &impl Serialize) -> BTreeMap<String, Value> {
    let mut flat = BTreeMap::new();
    let table = Value::try_from(config).expect("every value of a config has a form in TOML");
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
