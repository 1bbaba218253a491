//! Learning rate and EMA decay: pure functions of the step.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Schedule of the learning rate with the peak `lr` over the `steps` of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum LrSchedule {
    /// Linear warm-up that reaches the peak at step `warmup_steps`, then half a cosine down to
    /// `final_lr` (fairseq's `cosine`; data2vec 2.0).
    Cosine {
        /// Steps of the warm-up.
        warmup_steps: u64,
        /// Rate at the start; without it `final_lr`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        init_lr: Option<f64>,
        /// Rate at the end.
        final_lr: f64,
    },
    /// As `cosine`, with a warm-up whose last step already has the peak (BEiT's schedule; data2vec
    /// 1.0 images).
    BeitCosine {
        /// Steps of the warm-up.
        warmup_steps: u64,
        /// Rate at the start; without it 0.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        init_lr: Option<f64>,
        /// Rate at the end.
        final_lr: f64,
    },
    /// Linear warm-up, constant peak, exponential decay, constant rate (fairseq's `tri_stage`;
    /// data2vec 1.0 speech, and text with BERT's masks). fairseq's phase ratios of `steps` are
    /// rounded down to steps.
    TriStage {
        /// Steps of the warm-up.
        warmup_steps: u64,
        /// Steps at the peak.
        hold_steps: u64,
        /// Steps of the decay.
        decay_steps: u64,
        /// Rate at the start as a fraction of the peak.
        init_scale: f64,
        /// Rate at the end as a fraction of the peak.
        final_scale: f64,
    },
    /// Linear warm-up from 0, then linearly down (fairseq's `polynomial_decay`; sentence tasks).
    Linear {
        /// Steps of the warm-up.
        warmup_steps: u64,
        /// Rate at the end; without it 0.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        final_lr: Option<f64>,
    },
}

impl LrSchedule {
    /// Returns the rate of update `step`, counted from 0, of `steps`.
    pub fn lr(&self, peak: f64, step: u64, steps: u64) -> f64 {
        let share = |done: u64, of: u64| done as f64 / of as f64;
        match *self {
            Self::Cosine {
                warmup_steps,
                init_lr,
                final_lr,
            } => {
                if step < warmup_steps {
                    let init = init_lr.unwrap_or(final_lr);
                    return init + (peak - init) * share(step, warmup_steps);
                }
                half_cosine(peak, final_lr, step - warmup_steps, steps - warmup_steps)
            }
            Self::BeitCosine {
                warmup_steps,
                init_lr,
                final_lr,
            } => {
                if step < warmup_steps {
                    let init = init_lr.unwrap_or(0.0);
                    return init + (peak - init) * share(step, warmup_steps.max(2) - 1);
                }
                half_cosine(peak, final_lr, step - warmup_steps, steps - warmup_steps)
            }
            Self::TriStage {
                warmup_steps,
                hold_steps,
                decay_steps,
                init_scale,
                final_scale,
            } => {
                let decay_from = warmup_steps + hold_steps;
                if step < warmup_steps {
                    let init = init_scale * peak;
                    init + (peak - init) * share(step, warmup_steps)
                } else if step < decay_from {
                    peak
                } else if step < decay_from + decay_steps {
                    peak * (final_scale.ln() * share(step - decay_from, decay_steps)).exp()
                } else {
                    final_scale * peak
                }
            }
            Self::Linear {
                warmup_steps,
                final_lr,
            } => {
                if step < warmup_steps {
                    return peak * share(step, warmup_steps);
                }
                let end = final_lr.unwrap_or(0.0);
                end + (peak - end) * share(steps.saturating_sub(step), steps - warmup_steps)
            }
        }
    }

    /// Number of steps of the warm-up.
    pub fn warmup_steps(&self) -> u64 {
        match *self {
            Self::Cosine { warmup_steps, .. }
            | Self::BeitCosine { warmup_steps, .. }
            | Self::TriStage { warmup_steps, .. }
            | Self::Linear { warmup_steps, .. } => warmup_steps,
        }
    }

    /// Number of steps of the stages after the warm-up, of schedules that have them.
    pub(crate) fn last_stage_steps(&self) -> u64 {
        match *self {
            Self::TriStage {
                hold_steps,
                decay_steps,
                ..
            } => hold_steps.saturating_add(decay_steps),
            Self::Cosine { .. } | Self::BeitCosine { .. } | Self::Linear { .. } => 0,
        }
    }

    /// The key of its table: `[optim.schedule.NAME]`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Cosine { .. } => "cosine",
            Self::BeitCosine { .. } => "beit_cosine",
            Self::TriStage { .. } => "tri_stage",
            Self::Linear { .. } => "linear",
        }
    }

    /// Returns a warning if a run of `steps` ends before the last stage.
    pub fn left_out(&self, steps: u64) -> Option<String> {
        let Self::TriStage {
            warmup_steps,
            hold_steps,
            decay_steps,
            ..
        } = *self
        else {
            return None;
        };
        let stages = [warmup_steps, hold_steps, decay_steps];
        let sum = stages.into_iter().fold(0, u64::saturating_add);
        (sum > steps).then(|| {
            format!(
                "optim.schedule.tri_stage: warmup_steps {warmup_steps} + hold_steps {hold_steps} + \
                 decay_steps {decay_steps} = {sum} is more than steps = {steps}: the run ends \
                 before the learning rate has decayed"
            )
        })
    }

    /// Returns a message for each invalid option, as `key: what is wrong`.
    pub fn problems(&self) -> Vec<String> {
        // A NaN is not in the range.
        let outside = |values: &[(&str, f64)], greatest: f64| -> Vec<String> {
            let outside = values
                .iter()
                .filter(|(_, value)| !(0.0..=greatest).contains(value));
            let limit = match greatest {
                f64::INFINITY => String::new(),
                greatest => format!(" and at most {greatest}"),
            };
            outside
                .map(|(key, value)| format!("{key}: must be at least 0{limit}, is {value}"))
                .collect()
        };
        match *self {
            Self::Cosine {
                init_lr, final_lr, ..
            }
            | Self::BeitCosine {
                init_lr, final_lr, ..
            } => {
                let init_lr = init_lr.unwrap_or(0.0);
                outside(
                    &[("init_lr", init_lr), ("final_lr", final_lr)],
                    f64::INFINITY,
                )
            }
            Self::TriStage {
                init_scale,
                final_scale,
                ..
            } => {
                let mut problems = outside(&[("init_scale", init_scale)], 1.0);
                // An exponential decay never reaches 0.
                let is_share = final_scale > 0.0 && final_scale <= 1.0;
                if !is_share {
                    problems.push(format!(
                        "final_scale: must be above 0 and at most 1, is {final_scale}"
                    ));
                }
                problems
            }
            Self::Linear { final_lr, .. } => {
                outside(&[("final_lr", final_lr.unwrap_or(0.0))], f64::INFINITY)
            }
        }
    }
}

/// Returns half a cosine from `peak` at 0 to `final_lr` at `steps` and later.
fn half_cosine(peak: f64, final_lr: f64, step: u64, steps: u64) -> f64 {
    if step >= steps {
        return final_lr;
    }
    let share = step as f64 / steps as f64;
    final_lr + 0.5 * (peak - final_lr) * (1.0 + (std::f64::consts::PI * share).cos())
}

/// Schedule of the teacher's decay: the table `[ema]`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmaSchedule {
    /// Decay τ at the start.
    pub decay: f64,
    /// Decay from `anneal_steps` on; at 1 the teacher does not change.
    pub end_decay: f64,
    /// Updates over which τ changes linearly from `decay` to `end_decay`; 0 for a constant
    /// `end_decay`.
    pub anneal_steps: u64,
}

impl EmaSchedule {
    /// Returns τ of the EMA update after the `updates`-th optimizer step, counted from 1 as in
    /// fairseq (data2vec 1.0's vision code counts from 0).
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
    fn cosine_has_the_expected_start_peak_and_end() {
        let schedule = LrSchedule::Cosine {
            warmup_steps: 10,
            init_lr: None,
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
            init_lr: None,
            final_lr: 0.0,
        };
        assert!(schedule.lr(1.0, 0, 110).abs() < 1e-12);
        assert!((schedule.lr(1.0, 9, 110) - 1.0).abs() < 1e-12);
        assert!((schedule.lr(1.0, 10, 110) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn warm_up_starts_at_init_lr() {
        let cosine = LrSchedule::Cosine {
            warmup_steps: 10,
            init_lr: Some(0.3),
            final_lr: 0.1,
        };
        let beit = LrSchedule::BeitCosine {
            warmup_steps: 11,
            init_lr: Some(0.3),
            final_lr: 0.1,
        };
        // 0.3 + (2 − 0.3)·k/10; after the warm-up `init_lr` has no influence.
        for (step, expected) in [(0, 0.3), (1, 0.47), (5, 1.15), (10, 2.0)] {
            for schedule in [cosine, beit] {
                let found = schedule.lr(2.0, step, 110);
                assert!(
                    (found - expected).abs() < 1e-12,
                    "{schedule:?} at {step}: {found}"
                );
            }
        }
        assert!((cosine.lr(2.0, 60, 110) - 1.05).abs() < 1e-12);
        let above_peak = LrSchedule::Cosine {
            warmup_steps: 2,
            init_lr: Some(1.5),
            final_lr: 0.0,
        };
        assert!((above_peak.lr(0.5, 1, 10) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn linear_decay_ends_at_final_lr() {
        let schedule = |final_lr| LrSchedule::Linear {
            warmup_steps: 10,
            final_lr,
        };
        for (final_lr, end) in [(None, 0.0), (Some(0.2), 0.2)] {
            let lr = |step| schedule(final_lr).lr(1.0, step, 110);
            assert!(lr(0).abs() < 1e-12 && (lr(10) - 1.0).abs() < 1e-12);
            let middle = 0.5 * (1.0 + end);
            assert!((lr(60) - middle).abs() < 1e-12);
            assert!((lr(110) - end).abs() < 1e-12 && (lr(200) - end).abs() < 1e-12);
        }
    }

    #[test]
    fn the_three_stages_follow_each_other() {
        let schedule = LrSchedule::TriStage {
            warmup_steps: 10,
            hold_steps: 20,
            decay_steps: 40,
            init_scale: 0.1,
            final_scale: 0.01,
        };
        for (step, expected) in [
            (0, 0.2),
            (5, 1.1),
            (10, 2.0),
            (29, 2.0),
            (50, 0.2),
            (70, 0.02),
        ] {
            let found = schedule.lr(2.0, step, 100);
            assert!((found - expected).abs() < 1e-12, "{step}: {found}");
        }
        assert!((schedule.lr(2.0, 99, 100) - 0.02).abs() < 1e-12);
    }

    #[test]
    fn negative_rates_are_rejected() {
        for schedule in [
            LrSchedule::Cosine {
                warmup_steps: 1,
                init_lr: None,
                final_lr: -1e-9,
            },
            LrSchedule::BeitCosine {
                warmup_steps: 1,
                init_lr: None,
                final_lr: f64::NAN,
            },
            LrSchedule::BeitCosine {
                warmup_steps: 1,
                init_lr: Some(-1.0),
                final_lr: 0.0,
            },
            LrSchedule::TriStage {
                warmup_steps: 1,
                hold_steps: 1,
                decay_steps: 1,
                init_scale: 1.5,
                final_scale: 1.0,
            },
            LrSchedule::Linear {
                warmup_steps: 1,
                final_lr: Some(-1.0),
            },
            LrSchedule::TriStage {
                warmup_steps: 1,
                hold_steps: 1,
                decay_steps: 1,
                init_scale: 1.0,
                final_scale: 0.0,
            },
        ] {
            assert_eq!(schedule.problems().len(), 1, "{schedule:?}");
        }
        let schedule = LrSchedule::Cosine {
            warmup_steps: 1,
            init_lr: Some(0.0),
            final_lr: 0.0,
        };
        assert!(schedule.problems().is_empty());
        let schedule = LrSchedule::TriStage {
            warmup_steps: 1,
            hold_steps: 1,
            decay_steps: 1,
            init_scale: 0.0,
            final_scale: 1.0,
        };
        assert!(schedule.problems().is_empty());
    }

    #[test]
    fn tri_stage_longer_than_the_run_is_reported() {
        let schedule = LrSchedule::TriStage {
            warmup_steps: 10,
            hold_steps: 20,
            decay_steps: 40,
            init_scale: 0.1,
            final_scale: 0.01,
        };
        for steps in [70, 90] {
            assert_eq!(schedule.left_out(steps), None);
        }
        let warning = schedule.left_out(50).expect("no decay");
        let sum = "warmup_steps 10 + hold_steps 20 + decay_steps 40 = 70 is more than steps = 50";
        assert!(warning.contains(sum), "{warning}");
    }

    #[test]
    fn ema_decay_is_linear_then_constant() {
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
