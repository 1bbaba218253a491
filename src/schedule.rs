//! Learning rate and EMA decay: pure functions of the step.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the learning rate goes from its peak, `lr`, over the `steps` of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum LrSchedule {
    /// Linear warm-up from `final_lr` that reaches the peak at step `warmup_steps`, then half a
    /// cosine down to `final_lr` (fairseq's `cosine`; data2vec 2.0).
    Cosine {
        /// Steps of the warm-up.
        warmup_steps: u64,
        /// Rate at both ends.
        final_lr: f64,
    },
    /// The same with a warm-up from 0 whose last step already has the peak (BEiT's schedule;
    /// data2vec 1.0 images).
    BeitCosine {
        /// Steps of the warm-up.
        warmup_steps: u64,
        /// Rate at the end.
        final_lr: f64,
    },
}

impl LrSchedule {
    /// The rate of update `step`, counted from 0, of `steps`.
    pub fn lr(&self, peak: f64, step: u64, steps: u64) -> f64 {
        let (warmup_steps, final_lr) = match *self {
            Self::Cosine {
                warmup_steps,
                final_lr,
            } => {
                if step < warmup_steps {
                    return final_lr + (peak - final_lr) * step as f64 / warmup_steps as f64;
                }
                (warmup_steps, final_lr)
            }
            Self::BeitCosine {
                warmup_steps,
                final_lr,
            } => {
                if step < warmup_steps {
                    return peak * step as f64 / (warmup_steps.max(2) - 1) as f64;
                }
                (warmup_steps, final_lr)
            }
        };
        if step >= steps {
            return final_lr;
        }
        let share = (step - warmup_steps) as f64 / (steps - warmup_steps) as f64;
        final_lr + 0.5 * (peak - final_lr) * (1.0 + (std::f64::consts::PI * share).cos())
    }

    /// Steps of the warm-up.
    pub fn warmup_steps(&self) -> u64 {
        match *self {
            Self::Cosine { warmup_steps, .. } | Self::BeitCosine { warmup_steps, .. } => {
                warmup_steps
            }
        }
    }
}

/// How the teacher follows the student: the table `[ema]`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmaSchedule {
    /// Decay τ at the start.
    pub decay: f64,
    /// Decay from `anneal_steps` on; at 1 the teacher stands still.
    pub end_decay: f64,
    /// Updates over which τ goes linearly from `decay` to `end_decay`; 0 for a constant `end_decay`.
    pub anneal_steps: u64,
}

impl EmaSchedule {
    /// τ of the EMA update that follows the `updates`-th optimizer step (counted from 1, as
    /// fairseq counts; data2vec 1.0's vision code counts from 0).
    pub fn decay(&self, updates: u64) -> f64 {
        if updates >= self.anneal_steps {
            return self.end_decay;
        }
        let left = 1.0 - updates as f64 / self.anneal_steps as f64;
        self.end_decay - (self.end_decay - self.decay) * left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosine_starts_peaks_and_ends_where_it_should() {
        let schedule = LrSchedule::Cosine {
            warmup_steps: 10,
            final_lr: 0.1,
        };
        assert!((schedule.lr(1.0, 0, 110) - 0.1).abs() < 1e-12);
        assert!((schedule.lr(1.0, 10, 110) - 1.0).abs() < 1e-12);
        assert!((schedule.lr(1.0, 60, 110) - 0.55).abs() < 1e-12);
        assert!((schedule.lr(1.0, 110, 110) - 0.1).abs() < 1e-12);
    }

    #[test]
    fn beit_warm_up_ends_at_the_peak() {
        let schedule = LrSchedule::BeitCosine {
            warmup_steps: 10,
            final_lr: 0.0,
        };
        assert!(schedule.lr(1.0, 0, 110).abs() < 1e-12);
        assert!((schedule.lr(1.0, 9, 110) - 1.0).abs() < 1e-12);
        assert!((schedule.lr(1.0, 10, 110) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn decay_is_linear_then_constant() {
        let ema = EmaSchedule {
            decay: 0.9,
            end_decay: 0.99,
            anneal_steps: 10,
        };
        assert!((ema.decay(0) - 0.9).abs() < 1e-12);
        assert!((ema.decay(5) - 0.945).abs() < 1e-12);
        assert!((ema.decay(10) - 0.99).abs() < 1e-12);
        let constant = EmaSchedule {
            decay: 0.5,
            end_decay: 0.9998,
            anneal_steps: 0,
        };
        assert!((constant.decay(0) - 0.9998).abs() < 1e-12);
    }
}
