//! Ends a run whose loss is not finite or whose representations collapse.

use super::metrics::StepMetrics;
use crate::config::GuardConfig;

/// Why a run was ended; the process exits with 3.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// Loss or gradients are not finite.
    #[error(
        "diverged at step {step}: {name} is not finite, and this step was not saved\n\
         hint: resume the last checkpoint with a lower rate (--allow optim --set optim.lr=...), or \
         leave out the steps that broke it (--skip-to)"
    )]
    Diverged {
        /// The first step that is not finite.
        step: u64,
        /// Name of the quantity.
        name: &'static str,
    },
    /// The last update left a weight that is not finite.
    #[error(
        "diverged at step {step}: {name} is not finite, and this step was not saved\n\
         hint: resume the last checkpoint with a lower rate (--allow optim --set optim.lr=...), or \
         leave out the steps that broke it (--skip-to)"
    )]
    Weights {
        /// Number of the step.
        step: u64,
        /// Name of the parameter.
        name: String,
    },
    /// A quantity that should differ between positions is nearly constant.
    #[error(
        "collapsed at step {step}: {name} = {value} is below guard.{key} = {limit}\n\
         hint: the usual causes are a high learning rate, a short warm-up, or a low EMA decay"
    )]
    Collapsed {
        /// Number of the step.
        step: u64,
        /// Name of the quantity.
        name: &'static str,
        /// Value of the quantity.
        value: f32,
        /// Value of the limit.
        limit: f64,
        /// Key of the limit in `[guard]`.
        key: &'static str,
    },
}

/// Checks the metrics of a step against the limits; a collapse counts from `from_step` on.
pub(super) fn check(config: &GuardConfig, metrics: &StepMetrics) -> Result<(), Failure> {
    let step = metrics.step;
    if let Some((step, name)) = metrics.non_finite {
        return Err(Failure::Diverged { step, name });
    }
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
        // A NaN is below every limit.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(step: u64) -> StepMetrics {
        StepMetrics {
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
            non_finite: None,
        }
    }

    const LIMITS: GuardConfig = GuardConfig {
        from_step: 10,
        min_target_var: 0.1,
        min_pred_var: 0.01,
        min_local_var: 0.0,
    };

    #[test]
    fn non_finite_loss_or_gradient_fails_at_any_step() {
        let bad = StepMetrics {
            non_finite: Some((3, "train/loss")),
            ..metrics(5)
        };
        let failure = check(&LIMITS, &bad).expect_err("diverged");
        let name = "train/loss";
        assert_eq!(failure, Failure::Diverged { step: 3, name });
    }

    #[test]
    fn collapse_counts_from_from_step_on() {
        let flat = |step| StepMetrics {
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
        let nan = StepMetrics {
            target_var: f32::NAN,
            ..metrics(10)
        };
        assert!(check(&LIMITS, &nan).is_err());
        // A limit of 0 is off.
        let flat = StepMetrics {
            local_var: 0.0,
            ..metrics(10)
        };
        assert_eq!(check(&LIMITS, &flat), Ok(()));
    }
}
