//! A table of a reference's config, of which every option must be mapped.
//!
//! An option that our config cannot express fails its test with the option's name and value; none
//! is passed over.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use serde_json::Value;

/// One table of a config. All tables of one config share the record of what was read.
pub(crate) struct Options<'a> {
    value: &'a Value,
    path: String,
    read: Rc<RefCell<BTreeSet<String>>>,
}

impl<'a> Options<'a> {
    /// The outermost table.
    pub(crate) fn new(value: &'a Value) -> Self {
        Self {
            value,
            path: String::new(),
            read: Rc::default(),
        }
    }

    /// The table `key`; an empty one where the config does not have it.
    pub(crate) fn table(&self, key: &str) -> Options<'a> {
        Options {
            value: &self.value[key],
            path: self.path_of(key),
            read: Rc::clone(&self.read),
        }
    }

    /// The value of an option, which counts as mapped from here on; null where there is none.
    pub(crate) fn get(&self, key: &str) -> &'a Value {
        self.read.borrow_mut().insert(self.path_of(key));
        &self.value[key]
    }

    /// A number that the config must have.
    pub(crate) fn number(&self, key: &str) -> f64 {
        let value = self.get(key);
        value.as_f64().unwrap_or_else(|| self.refuse(key, "number"))
    }

    /// A number, the reference's `default` where the config leaves it out.
    pub(crate) fn number_or(&self, key: &str, default: f64) -> f64 {
        match self.get(key) {
            Value::Null => default,
            _ => self.number(key),
        }
    }

    /// A size that the config must have.
    pub(crate) fn size(&self, key: &str) -> usize {
        let value = self.get(key).as_u64();
        value.unwrap_or_else(|| self.refuse(key, "size")) as usize
    }

    /// A size, the reference's `default` where the config leaves it out.
    pub(crate) fn size_or(&self, key: &str, default: usize) -> usize {
        match self.get(key) {
            Value::Null => default,
            _ => self.size(key),
        }
    }

    /// A switch, the reference's `default` where the config leaves it out.
    pub(crate) fn is_set_or(&self, key: &str, default: bool) -> bool {
        match self.get(key) {
            Value::Null => default,
            value => value
                .as_bool()
                .unwrap_or_else(|| self.refuse(key, "switch")),
        }
    }

    /// A switch that is off where the config leaves it out.
    pub(crate) fn is_set(&self, key: &str) -> bool {
        self.is_set_or(key, false)
    }

    /// A text that the config must have.
    pub(crate) fn text(&self, key: &str) -> &'a str {
        let value = self.get(key).as_str();
        value.unwrap_or_else(|| self.refuse(key, "text"))
    }

    /// Requires `ours`, the only value that our config can express, of an option whose `default`
    /// in the reference may differ.
    pub(crate) fn require_or(&self, key: &str, default: impl Into<Value>, ours: impl Into<Value>) {
        let (default, ours) = (default.into(), ours.into());
        let value = match self.get(key) {
            Value::Null => &default,
            value => value,
        };
        let is_ours = match (value.as_f64(), ours.as_f64()) {
            (Some(value), Some(ours)) => value.total_cmp(&ours).is_eq(),
            _ => *value == ours,
        };
        assert!(
            is_ours,
            "{} = {value} is not supported, only {ours} is",
            self.path_of(key)
        );
    }

    /// [`Self::require_or`] of an option whose default is `ours`.
    pub(crate) fn require(&self, key: &str, ours: impl Into<Value>) {
        let ours = ours.into();
        self.require_or(key, ours.clone(), ours);
    }

    /// Requires that each of these switches is off, as it is where the config leaves it out.
    pub(crate) fn require_unset(&self, keys: &[&str]) {
        for key in keys {
            self.require(key, false);
        }
    }

    /// Requires that each of these numbers is 0, as it is where the config leaves it out.
    pub(crate) fn require_zero(&self, keys: &[&str]) {
        for key in keys {
            self.require(key, 0.0);
        }
    }

    /// Options that change nothing of what a case holds: how it was drawn, logged or computed.
    pub(crate) fn ignore(&self, keys: &[&str]) {
        for key in keys {
            self.get(key);
        }
    }

    /// Requires that every option of the whole config was mapped.
    pub(crate) fn require_all(&self) {
        let mut unknown = Vec::new();
        self.collect_unread(&mut unknown);
        assert!(
            unknown.is_empty(),
            "options that no key of ours is mapped from: {}",
            unknown.join(", ")
        );
    }

    fn collect_unread(&self, unknown: &mut Vec<String>) {
        for (key, value) in self.value.as_object().into_iter().flatten() {
            if self.read.borrow().contains(&self.path_of(key)) {
                continue;
            }
            if value.is_object() {
                self.table(key).collect_unread(unknown);
            } else {
                unknown.push(format!("{} = {value}", self.path_of(key)));
            }
        }
    }

    fn path_of(&self, key: &str) -> String {
        match &*self.path {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        }
    }

    fn refuse(&self, key: &str, kind: &str) -> ! {
        panic!(
            "{} = {} is not a {kind}",
            self.path_of(key),
            self.value[key]
        )
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use serde_json::json;

    use super::*;

    /// The message that `run` panics with.
    fn message(run: impl FnOnce()) -> String {
        let error = catch_unwind(AssertUnwindSafe(run)).unwrap_err();
        error.downcast_ref::<String>().unwrap().clone()
    }

    #[test]
    fn unmapped_options_fail_by_name() {
        let config = json!({"model": {"depth": 3, "decoder": {"dim": 8}, "new": 0.5}});
        let root = Options::new(&config);
        let model = root.table("model");
        assert_eq!(model.size("depth"), 3);
        let text = message(|| root.require_all());
        assert!(text.contains("model.new = 0.5") && text.contains("model.decoder.dim = 8"));
        assert!(!text.contains("depth"), "{text}");
        model.ignore(&["decoder", "new"]);
        root.require_all();
    }

    #[test]
    fn unsupported_values_fail_by_name() {
        let config =
            json!({"model": {"dropout_input": 0.1, "loss_scale": null, "mode": "default"}});
        let root = Options::new(&config);
        let model = root.table("model");
        let text = message(|| model.require_zero(&["layerdrop", "dropout_input"]));
        assert!(text.contains("model.dropout_input = 0.1"), "{text}");
        model.require_or("loss_scale", 1.0, 1);
        let text = message(|| model.require_or("mode", "default", "layer_norm"));
        assert!(text.contains("model.mode = \"default\""), "{text}");
        let text = message(|| model.require_or("absent", "default", "layer_norm"));
        assert!(text.contains("model.absent = \"default\""), "{text}");
    }
}
