//! Reads a config: TOML text, changed from the command line, then checked.

use std::path::Path;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use toml::Table;

use super::keys::Keys;
use super::overrides::{Override, Overrides};
use crate::error::ConfigError;

/// Reads the file at `path`.
///
/// # Errors
///
/// [`ConfigError::Io`].
pub fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Io {
        path: path.to_owned(),
        source,
    })
}

/// Parses `text`, changed by `overrides`, and refuses it where `check` finds problems (`key:
/// problem`). A problem that one of the overrides brought names it. `path` is for messages.
///
/// # Errors
///
/// Every variant but [`ConfigError::Io`].
pub fn parse<T: DeserializeOwned + JsonSchema>(
    path: &Path,
    text: &str,
    overrides: &Overrides,
    check: fn(&T) -> Vec<String>,
) -> Result<T, ConfigError> {
    let in_text = |error: toml::de::Error| ConfigError::Parse {
        path: path.to_owned(),
        reason: error.to_string().trim_end().to_owned(),
    };
    let overrides = overrides.in_order();
    let table: Table = toml::from_str(text).map_err(in_text)?;
    let config: T = match changed(&table, &overrides) {
        Ok(config) => config,
        Err(reason) => {
            // Only the text's own errors have a line and a caret.
            toml::from_str::<T>(text).map_err(in_text)?;
            return Err(ConfigError::Override {
                problems: at_fault::<T>(&table, &overrides, &reason),
            });
        }
    };
    let problems = check(&config);
    if problems.is_empty() {
        return Ok(config);
    }
    let blamed = |problem: String| {
        let key = problem.split(": ").next().unwrap_or_default();
        let brought = |&i: &usize| {
            let others = changed::<T>(&table, &without(&overrides, i)).map(|config| check(&config));
            others.is_ok_and(|others| {
                !others
                    .iter()
                    .any(|other| other.split(": ").next() == Some(key))
            })
        };
        match (0..overrides.len()).find(brought) {
            Some(i) => format!("{problem} (with {})", overrides[i]),
            None => problem,
        }
    };
    Err(ConfigError::Invalid {
        path: path.to_owned(),
        problems: problems.into_iter().map(blamed).collect(),
    })
}

/// Refuses overrides of keys that `T` does not have, each with the nearest key.
///
/// # Errors
///
/// [`ConfigError::Override`].
pub fn refuse_unknown<T: JsonSchema>(overrides: &Overrides) -> Result<(), ConfigError> {
    let problems = unknown_keys::<T>(&overrides.in_order());
    if problems.is_empty() {
        Ok(())
    } else {
        Err(ConfigError::Override { problems })
    }
}

/// Applies `overrides` to a copy of `table` and reads the result.
fn changed<T: DeserializeOwned>(table: &Table, overrides: &[Override]) -> Result<T, String> {
    let mut table = table.clone();
    for change in overrides {
        change.apply(&mut table)?;
    }
    table
        .try_into()
        .map_err(|error: toml::de::Error| error.to_string().trim_end().to_owned())
}

fn without<'a>(overrides: &[Override<'a>], i: usize) -> Vec<Override<'a>> {
    [&overrides[..i], &overrides[i + 1..]].concat()
}

/// Names the overrides that make reading fail for `reason`: those that cannot be applied and those
/// of unknown keys; else the one without which reading succeeds; else the first after which it fails.
fn at_fault<T: DeserializeOwned + JsonSchema>(
    table: &Table,
    overrides: &[Override],
    reason: &str,
) -> Vec<String> {
    let mut rest = table.clone();
    let refused = overrides.iter().filter_map(|change| {
        let reason = change.apply(&mut rest).err()?;
        Some(format!("{change}: {reason}"))
    });
    let mut problems: Vec<String> = refused.collect();
    problems.extend(unknown_keys::<T>(overrides));
    if !problems.is_empty() {
        return problems;
    }
    let n = overrides.len();
    let decisive = (0..n).find(|&i| changed::<T>(table, &without(overrides, i)).is_ok());
    let first = || (0..n).find(|&i| changed::<T>(table, &overrides[..=i]).is_err());
    match decisive.or_else(first) {
        Some(i) => {
            let own = changed::<T>(table, &overrides[..=i]).err();
            let reason = own.as_deref().unwrap_or(reason);
            vec![format!("{}: {reason}{}", overrides[i], hint(reason))]
        }
        None => vec![reason.to_owned()],
    }
}

/// Names the overrides whose keys `T` does not have, each with the nearest key.
pub(super) fn unknown_keys<T: JsonSchema>(overrides: &[Override]) -> Vec<String> {
    let keys = Keys::of::<T>();
    let unknown = overrides
        .iter()
        .filter(|change| !keys.contains(change.key()));
    let problem = |change: &Override| {
        let key = change.key();
        let near = keys.nearest(key);
        let hint = near.map_or(String::new(), |near| {
            format!("\nhint: the nearest key is `{near}`")
        });
        format!("{change}: unknown key `{key}`{hint}")
    };
    unknown.map(problem).collect()
}

/// The remedy for a table that may hold one key only, such as `data.mask`.
fn hint(reason: &str) -> &'static str {
    if reason.contains("single key") || reason.contains("exactly 1 element") {
        "\nhint: a table of alternatives holds one of them; remove the other with --unset KEY"
    } else {
        ""
    }
}
