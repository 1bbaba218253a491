//! Compares the config of a checkpoint with the config to resume with.

use std::collections::BTreeSet;

use toml::Value;
use understudy_pipelines::store::Folder;

use super::Allow;
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

/// Compares `then`, the config of `checkpoint` after `step` steps, with `now`. Returns warnings; a
/// difference in any other key is an error.
///
/// Settings of the optimizer, and a number of steps that changes the learning rate of the next step,
/// differ only with [`Allow::Optim`].
pub(super) fn compare(
    checkpoint: &Folder,
    step: u64,
    then: &RunConfig,
    now: &RunConfig,
    allow: &[Allow],
) -> Result<Vec<String>, RunError> {
    let path = checkpoint.url();
    let rates = [then, now].map(|c| c.optim.schedule.lr(c.optim.lr, step, c.steps));
    let [rate_then, rate_now] = rates;
    let is_other_rate = step < now.steps && (rate_then - rate_now).abs() > 1e-9 * rate_then.abs();
    let (then, now) = (flatten(then), flatten(now));
    let (mut differences, mut of_optim, mut warnings) = (Vec::new(), Vec::new(), Vec::new());
    let keys: BTreeSet<&String> = then.keys().chain(now.keys()).collect();
    for key in keys {
        let (a, b) = (then.get(key), now.get(key));
        if a == b || within(key, &FREE) || is_dataset_url(key) {
            continue;
        }
        let show = |value: Option<&Value>| value.map_or("not set".to_owned(), ToString::to_string);
        let difference = format!("{key}: {} → {}", show(a), show(b));
        if within(key, &["optim"]) || (key == "steps" && is_other_rate) {
            of_optim.push(difference);
        } else if within(key, &WARNED) {
            warnings.push(difference);
        } else {
            differences.push(difference);
        }
    }
    if is_other_rate && !of_optim.is_empty() {
        of_optim.push(format!(
            "learning rate of the next step: {rate_then:.3e} → {rate_now:.3e}"
        ));
    }
    if allow.contains(&Allow::Optim) {
        warnings.append(&mut of_optim);
    }
    if !differences.is_empty() {
        differences.extend(of_optim);
        return Err(RunError::Incompatible { path, differences });
    }
    if !of_optim.is_empty() {
        let differences = of_optim;
        return Err(RunError::OtherOptimizer { path, differences });
    }
    Ok(warnings)
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
        compare(&Path::new("run").into(), 100, &with(&[]), &with(set), &[])
    }

    /// Compares after `step` steps, with the optimizer's settings allowed.
    fn allowed(step: u64, set: &[&str]) -> Result<Vec<String>, RunError> {
        let allow = [Allow::Optim];
        compare(
            &Path::new("run").into(),
            step,
            &with(&[]),
            &with(set),
            &allow,
        )
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
    fn changed_optimizer_needs_the_flag() {
        let set = ["optim.lr=0.5", "train.log_every=7"];
        let error = compared(&set).expect_err("another rate");
        let message = error.to_string();
        let rates = "learning rate of the next step: ";
        for part in ["optim.lr: 0.001 → 0.5", rates, "hint: --allow optim"] {
            assert!(message.contains(part), "{message}");
        }
        let warnings = allowed(100, &set).expect("resumes").join(" ");
        assert!(warnings.contains(rates), "{warnings}");
        let error = allowed(100, &["optim.lr=0.5", "ema.decay=0.5"]).expect_err("another teacher");
        assert!(matches!(error, RunError::Incompatible { .. }), "{error}");
    }

    #[test]
    fn longer_run_needs_the_flag_if_the_rate_changes() {
        let steps = with(&[]).steps;
        let longer = format!("steps={}", 2 * steps);
        let folder = Path::new("run").into();
        let after = |step| compare(&folder, step, &with(&[]), &with(&[&longer]), &[]);
        let error = after(steps).expect_err("the cosine is at its end");
        assert!(matches!(error, RunError::OtherOptimizer { .. }), "{error}");
        // In the warm-up the rate does not depend on the number of steps.
        assert_eq!(after(1).expect("resumes").len(), 1);
        assert_eq!(allowed(steps, &[&longer]).expect("resumes").len(), 2);
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
