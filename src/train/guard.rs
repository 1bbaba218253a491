//! When a run is given up: a loss that is no number, or a collapse.

use crate::config::GuardConfig;
use crate::train::metrics::Metrics;

/// Why a run was given up; the process exits with 3.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// Loss or gradients are not finite.
    #[error(
        "diverged at step {step}: {name} is {value}; nothing of it was saved. Start another run (--run, with `init` to begin from this one's student) with a lower `optim.lr` or a longer warm-up"
    )]
    Diverged {
        /// The step.
        step: u64,
        /// The quantity.
        name: &'static str,
        /// Its value.
        value: f32,
    },
    /// The last update left a weight that is not finite.
    #[error(
        "diverged at step {step}: {name} is not finite; nothing of it was saved. Start another run (--run, with `init` to begin from this one's student) with a lower `optim.lr` or a longer warm-up"
    )]
    Weights {
        /// The step.
        step: u64,
        /// The parameter.
        name: String,
    },
    /// Something that should differ between patches has become the same everywhere.
    #[error(
        "collapsed at step {step}: {name} = {value} is below the limit of {limit}; the usual causes are a learning rate too high, a warm-up too short, or an EMA decay too low. The limit is `guard.{key}`"
    )]
    Collapsed {
        /// The step.
        step: u64,
        /// The quantity.
        name: &'static str,
        /// Its value.
        value: f32,
        /// The limit.
        limit: f64,
        /// Where the limit is set.
        key: &'static str,
    },
}

/// Looks at what was read back from the device.
pub(super) fn check(config: &GuardConfig, metrics: &Metrics) -> Result<(), Failure> {
    let step = metrics.step;
    check_finite(step, metrics.loss, metrics.grad_norm)?;
    if step < config.from_step {
        return Ok(());
    }
    for (name, value, limit, key) in [
        (
            "train/target_var",
            metrics.target_var,
            config.min_target_var,
            "min_target_var",
        ),
        (
            "train/pred_var",
            metrics.pred_var,
            config.min_pred_var,
            "min_pred_var",
        ),
        (
            "train/local_var",
            metrics.local_var,
            config.min_local_var,
            "min_local_var",
        ),
    ] {
        // A spread that is no number is below every limit.
        if limit > 0.0 && (value.is_nan() || f64::from(value) < limit) {
            return Err(Failure::Collapsed {
                step,
                name,
                value,
                limit,
                key,
            });
        }
    }
    Ok(())
}

/// Whether loss and gradients are numbers.
fn check_finite(step: u64, loss: f32, grad_norm: f32) -> Result<(), Failure> {
    for (name, value) in [("train/loss", loss), ("train/grad_norm", grad_norm)] {
        if !value.is_finite() {
            return Err(Failure::Diverged { step, name, value });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(step: u64) -> Metrics {
        Metrics {
            step,
            loss: 1.0,
            regression: 1.0,
            cls: None,
            target_var: 0.5,
            pred_var: 0.5,
            local_var: 0.5,
            grad_norm: 1.0,
            lr: 1e-3,
            decay: 0.999,
            samples_per_sec: 1.0,
            wait_secs: 0.0,
            bad_samples: 0,
        }
    }

    const LIMITS: GuardConfig = GuardConfig {
        from_step: 10,
        min_target_var: 0.1,
        min_pred_var: 0.01,
        min_local_var: 0.0,
    };

    #[test]
    fn a_loss_that_is_no_number_ends_the_run_at_once() {
        let bad = Metrics {
            loss: f32::NAN,
            ..metrics(0)
        };
        assert!(matches!(
            check(&LIMITS, &bad),
            Err(Failure::Diverged {
                name: "train/loss",
                ..
            })
        ));
        let bad = Metrics {
            grad_norm: f32::INFINITY,
            ..metrics(0)
        };
        assert!(matches!(
            check(&LIMITS, &bad),
            Err(Failure::Diverged { .. })
        ));
    }

    #[test]
    fn a_collapse_counts_from_its_step_on() {
        let flat = |step| Metrics {
            pred_var: 0.001,
            ..metrics(step)
        };
        assert_eq!(check(&LIMITS, &flat(9)), Ok(()));
        let failure = check(&LIMITS, &flat(10)).expect_err("collapsed");
        assert!(matches!(
            failure,
            Failure::Collapsed {
                key: "min_pred_var",
                ..
            }
        ));
        let nan = Metrics {
            target_var: f32::NAN,
            ..metrics(10)
        };
        assert!(check(&LIMITS, &nan).is_err());
        // A limit of 0 is off.
        let flat = Metrics {
            local_var: 0.0,
            ..metrics(10)
        };
        assert_eq!(check(&LIMITS, &flat), Ok(()));
    }
}
