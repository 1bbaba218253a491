//! Changes to a config from the command line: `--set KEY=VALUE` and `--unset KEY`.

use std::fmt;

use toml::{Table, Value};

/// Changes to a config: every `--unset` first, then every `--set`, in the order of the command line.
///
/// With the feature `cli`, the two options of a command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
pub struct Overrides {
    /// Change a value of the config, for example `data.batch=8`; may be repeated.
    #[cfg_attr(feature = "cli", arg(long = "set", value_name = "KEY=VALUE"))]
    pub set: Vec<String>,
    /// Remove a key of the config, for example `data.batch_seconds`; may be repeated, and is applied
    /// before every `--set`.
    #[cfg_attr(feature = "cli", arg(long = "unset", value_name = "KEY"))]
    pub unset: Vec<String>,
}

/// One change, as it was typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Override<'a> {
    /// `--unset KEY`.
    Unset(&'a str),
    /// `--set KEY=VALUE`.
    Set(&'a str),
}

impl Overrides {
    /// Changes that only set values.
    pub fn set<S: Into<String>>(assignments: impl IntoIterator<Item = S>) -> Self {
        Self {
            set: assignments.into_iter().map(Into::into).collect(),
            unset: Vec::new(),
        }
    }

    /// Returns the changes of keys that are below none of `roots`.
    #[must_use]
    pub fn without_roots(&self, roots: &[&str]) -> Self {
        let is_below = |change: Override| roots.contains(&change.root());
        let keep = |texts: &[String], change: fn(&str) -> Override<'_>| {
            let kept = texts.iter().filter(|text| !is_below(change(text)));
            kept.cloned().collect()
        };
        Self {
            set: keep(&self.set, |text| Override::Set(text)),
            unset: keep(&self.unset, |text| Override::Unset(text)),
        }
    }

    /// All changes, in the order in which they apply.
    pub(super) fn in_order(&self) -> Vec<Override<'_>> {
        let unset = self.unset.iter().map(|key| Override::Unset(key));
        let set = self.set.iter().map(|assignment| Override::Set(assignment));
        unset.chain(set).collect()
    }
}

impl<'a> Override<'a> {
    /// The dotted key that changes.
    pub(super) fn key(self) -> &'a str {
        match self {
            Self::Unset(key) => key.trim(),
            Self::Set(assignment) => assignment.split('=').next().unwrap_or(assignment).trim(),
        }
    }

    /// The key's first segment: a table, or a value at the top of the file.
    pub(super) fn root(self) -> &'a str {
        self.key().split('.').next().unwrap_or_default()
    }

    /// Changes `table`; a value that is not TOML is a string.
    ///
    /// # Errors
    ///
    /// The reason, where the change has no key, no value, or nothing to remove.
    pub(super) fn apply(self, table: &mut Table) -> Result<(), String> {
        let mut segments: Vec<&str> = self.key().split('.').collect();
        if segments.iter().any(|segment| segment.is_empty()) {
            return Err("the key is empty or has an empty segment".to_owned());
        }
        let last = segments.pop().unwrap_or_default();
        match self {
            Self::Set(assignment) => {
                let (_, value) = assignment
                    .split_once('=')
                    .ok_or("no value\nhint: write it as KEY=VALUE")?;
                let mut place = table;
                for segment in segments {
                    place = place
                        .entry(segment)
                        .or_insert_with(|| Value::Table(Table::new()))
                        .as_table_mut()
                        .ok_or_else(|| format!("`{segment}` is a value, not a table"))?;
                }
                place.insert(last.to_owned(), parse(value));
            }
            Self::Unset(key) => {
                let mut place = Some(table);
                for segment in segments {
                    place = place
                        .and_then(|table| table.get_mut(segment))
                        .and_then(Value::as_table_mut);
                }
                place
                    .and_then(|table| table.remove(last))
                    .ok_or_else(|| format!("nothing to remove: the config does not set `{key}`"))?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Override<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unset(key) => write!(f, "--unset {key}"),
            Self::Set(assignment) => write!(f, "--set {assignment}"),
        }
    }
}

fn parse(value: &str) -> Value {
    toml::from_str::<Table>(&format!("value = {value}"))
        .ok()
        .and_then(|mut parsed| parsed.remove("value"))
        .unwrap_or_else(|| Value::String(value.to_owned()))
}
