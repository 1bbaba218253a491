//! Compares the config of a checkpoint with the config to resume with.

use std::collections::BTreeSet;

use toml::Value;
use understudy_pipelines::store::Folder;

use super::error::RunError;
use crate::config::{RunConfig, flatten};

/// Keys that may differ: none of them changes what a step computes.
const FREE: [&str; 14] = [
    "init",
    "data.cache",
    "data.retry_for",
    "data.train", // A copied dataset resumes: the fingerprint decides. See also `is_dataset_url`.
    "data.val",
    "data.text.tokenizer", // Likewise: its hash decides.
    "data.memory",
    "data.image.eval_resize", // Used by evaluation only.
    "data.max_bad_fraction",
    "guard",
    "train.log_every",
    "train.save_every",
    "train.save_every_secs",
    "train.keep_every_steps",
];

/// Keys that may differ with a warning: the objective is the same, results are not bit-identical.
/// Other `data.limits` accept other samples.
const WARNED: [&str; 4] = ["steps", "threads", "train.micro_batches", "data.limits"];

/// Compares `then`, the config of `checkpoint`, with `now`. Returns warnings; a difference in any
/// other key is an error.
pub(super) fn compare(
    checkpoint: &Folder,
    then: &RunConfig,
    now: &RunConfig,
) -> Result<Vec<String>, RunError> {
    let (then, now) = (flatten(then), flatten(now));
    let mut differences = Vec::new();
    let mut warnings = Vec::new();
    let keys: BTreeSet<&String> = then.keys().chain(now.keys()).collect();
    for key in keys {
        let (a, b) = (then.get(key), now.get(key));
        if a == b || within(key, &FREE) || is_dataset_url(key) {
            continue;
        }
        let show = |value: Option<&Value>| value.map_or("not set".to_owned(), ToString::to_string);
        let difference = format!("{key}: {} → {}", show(a), show(b));
        if within(key, &WARNED) {
            warnings.push(difference);
        } else {
            differences.push(difference);
        }
    }
    if differences.is_empty() {
        Ok(warnings)
    } else {
        Err(RunError::Incompatible {
            path: checkpoint.url(),
            differences,
        })
    }
}

/// Returns whether `key` is the place of one of a mixture's datasets: copies resume, in the same
/// order.
fn is_dataset_url(key: &str) -> bool {
    key.starts_with("data.train[") && key.ends_with("].set")
}

fn within(key: &str, list: &[&str]) -> bool {
    list.iter().any(|item| {
        key == *item
            || key
                .strip_prefix(item)
                .is_some_and(|rest| rest.starts_with('.'))
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Overrides;

    fn with(set: &[&str]) -> RunConfig {
        let text = include_str!("../../configs/tiny-image.toml");
        let set: Vec<String> = set.iter().map(|&set| set.to_owned()).collect();
        RunConfig::parse(Path::new("tiny-image.toml"), text, &Overrides::set(set))
            .expect("a recipe")
    }

    fn compared(set: &[&str]) -> Result<Vec<String>, RunError> {
        compare(&Path::new("run").into(), &with(&[]), &with(set))
    }

    #[test]
    fn keys_of_evaluation_may_differ() {
        let free = compared(&["data.image.eval_resize=64", "data.retry_for=1s"]);
        assert_eq!(free.expect("resumes"), Vec::<String>::new());
    }

    #[test]
    fn changed_limits_and_micro_batches_warn() {
        let warnings = compared(&["data.limits.pixels=1000", "train.micro_batches=2"]);
        let warnings = warnings.expect("resumes").join(" ");
        for key in [
            "data.limits.pixels: ",
            " → 1000",
            "train.micro_batches: 1 → 2",
        ] {
            assert!(warnings.contains(key), "{warnings}");
        }
    }

    #[test]
    fn changed_objective_is_rejected() {
        let error = compared(&["ema.decay=0.5", "train.log_every=7"]).expect_err("another teacher");
        let RunError::Incompatible { differences, .. } = error else {
            panic!("{error}")
        };
        assert_eq!(differences, ["ema.decay: 0.99 → 0.5"]);
    }
}
