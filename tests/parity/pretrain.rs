//! Pre-training steps: targets, predictions, loss, gradients, and parameters after updates.

use std::collections::BTreeMap;

use burn::tensor::{Device, Int, Tensor, TensorData};
use understudy::model::EncoderInput;
use understudy::objective::{Data2Vec, Inputs, ModelConfig, Output, feature_std};
use understudy::optim::{AdamW, EmaSchedule, EpsForm, Gradients, OptimConfig, ema};
use understudy::params;

use crate::case::{Case, Golden, Goldens, below};
use crate::compare::{Comparison, values, worst_error};
use crate::forward::{check_start, check_update};
use crate::{v1, v2};

/// The differences between the cases.
pub(crate) struct Method {
    pub(crate) model: ModelConfig,
    pub(crate) optim: OptimConfig,
    pub(crate) ema: EmaSchedule,
    /// Returns the input of update k; none after the last.
    pub(crate) update_input: fn(&Case, &Goldens, usize, &Device) -> Option<UpdateInput>,
    pub(crate) n_masks: usize,
    /// Whether the EMA update after step k has the schedule's k-th value instead of the next one.
    pub(crate) ema_from_zero: bool,
    /// Whether the golden loss is a mean instead of a sum.
    pub(crate) mean_loss: bool,
    /// The factor of the golden `ema_decay.k` to τ.
    pub(crate) ema_decay_factor: f64,
    /// The prefix of the teacher's names.
    pub(crate) teacher_prefix: &'static str,
    /// Translates the reference's names to ours, for the student.
    pub(crate) student: fn(BTreeMap<String, TensorData>) -> BTreeMap<String, TensorData>,
    /// Translates the teacher's names without the prefix to ours.
    pub(crate) teacher: fn(BTreeMap<String, TensorData>) -> BTreeMap<String, TensorData>,
}

/// The input of one update.
pub(crate) struct UpdateInput {
    pub(crate) input: EncoderInput,
    pub(crate) student_tokens: Option<Tensor<2, Int>>,
    /// `[R, N]`, 1 = masked.
    pub(crate) mask: Golden,
}

pub(crate) fn check(case: &Case, device: &Device) {
    let io = case.tensors("io.safetensors");
    let method = match (case.text("method"), case.text("modality")) {
        ("data2vec1", "image") => v1::image(case),
        ("data2vec1", "audio") => v1::audio(case),
        ("data2vec1", "text") => v1::text(case),
        ("data2vec2", modality) => v2::method(case, modality, &io),
        other => panic!("unknown method {other:?}"),
    };
    assert_eq!(method.model.problems(), Vec::<String>::new());

    let run = |steps: &str, optim: OptimConfig, full: bool| {
        let Some(steps) = case.tensors_if_any(steps) else {
            return;
        };
        // The files of variants have their own norms.
        let mut expected = io.clone();
        expected.extend(steps);
        let mut comparison = Comparison::new(case, &expected);
        Run {
            case,
            method: &method,
            io: &expected,
            device,
            full,
        }
        .check(&mut comparison, optim);
        if full {
            // Inputs, and tensors that are compared under our names.
            let ours = ["in.", "grad.", "param_after.", "ema_after."];
            comparison.require_all(|name| ours.iter().any(|prefix| name.starts_with(prefix)));
        }
        comparison.finish();
    };
    let clip_norm = case.config["optimizer"]["clip"].as_f64();
    assert!(
        clip_norm.is_some(),
        "the case gives the norm of its clipped run"
    );
    run("steps.safetensors", method.optim, true);
    run(
        "steps_clip.safetensors",
        OptimConfig {
            clip_norm,
            ..method.optim
        },
        false,
    );
    let torch = OptimConfig {
        eps_form: EpsForm::AfterCorrection,
        ..method.optim
    };
    run("steps_torch_adamw.safetensors", torch, false);
}

/// One run over the updates of a case.
struct Run<'a> {
    case: &'a Case,
    method: &'a Method,
    io: &'a Goldens,
    device: &'a Device,
    /// Whether to compare everything or, for variants of the optimizer, only norms and parameters.
    full: bool,
}

impl Run<'_> {
    fn check(&self, comparison: &mut Comparison<'_>, optim: OptimConfig) {
        let mut objective = self.start();
        let mut adamw = AdamW::new(optim);
        // The unclipped run's norms are in `io.safetensors`, the clipped run's in its own file.
        let has_norms = self.full || optim.clip_norm.is_some();
        for k in 0.. {
            let Some(update_input) = (self.method.update_input)(self.case, self.io, k, self.device)
            else {
                assert!(k > 0, "the case has no update");
                break;
            };
            if self.full && k == 0 {
                check_start(
                    comparison,
                    self.io,
                    &objective,
                    &update_input.input,
                    self.device,
                );
            }
            let inputs = self.inputs(&objective, update_input, k);
            let output = objective.forward(inputs.clone());
            let mut gradients = Gradients::default();
            gradients.add(&objective.student, output.loss_sum.backward());
            if self.full {
                self.check_output(comparison, &objective, &inputs, &output, k);
                if k == 0 {
                    self.check_gradients(comparison, &gradients, output.count);
                }
            }
            let norm = gradients.finish(output.count, optim.clip_norm);
            if has_norms {
                comparison.scalar(&format!("grad_norm.{k}"), losses(k), scalar(norm));
            }
            objective.student = adamw.step(objective.student, gradients, optim.lr);
            let decay = self
                .method
                .ema
                .decay(if self.method.ema_from_zero { k } else { k + 1 } as u64);
            objective.teacher = ema::update(objective.teacher, &objective.student, decay, |name| {
                Data2Vec::ema_scope(&objective.config, name)
            });
            let n_steps = k + 1;
            let student = params::collect(&objective.student);
            self.check_parameters(comparison, "param_after", n_steps, &student, optim.lr);
            let teacher = params::collect(&objective.teacher);
            self.check_parameters(comparison, "ema_after", n_steps, &teacher, optim.lr);
        }
    }

    /// Loads the case's student and teacher, which differ.
    fn start(&self) -> Data2Vec {
        let weights = self.case.tensors("weights.safetensors");
        let Method {
            student,
            teacher,
            teacher_prefix,
            ..
        } = self.method;
        let (theirs, ours): (Goldens, Goldens) = weights
            .into_iter()
            .partition(|(name, _)| name.starts_with(teacher_prefix));
        let objective = Data2Vec::new(self.method.model.clone(), self.device);
        let (ours, theirs) = (
            student(below(&ours, "")),
            teacher(below(&theirs, teacher_prefix)),
        );
        Data2Vec {
            student: params::load(objective.student, ours).unwrap(),
            teacher: params::load(objective.teacher, theirs).unwrap(),
            config: objective.config,
        }
    }

    fn inputs(&self, objective: &Data2Vec, update_input: UpdateInput, k: usize) -> Inputs {
        let [_, n_positions] = update_input.mask.shape[..] else {
            panic!("masks are [R, N]")
        };
        let mask = update_input.mask.bytes();
        Inputs {
            input: update_input.input,
            student_tokens: update_input.student_tokens,
            noise: self.io.get(&format!("in.noise.{k}")).map(|noise| {
                let [_, _, dim] = noise.shape[..] else {
                    panic!("noise is [R, N, D]")
                };
                let masked = noise
                    .values
                    .chunks_exact(dim)
                    .zip(&mask)
                    .filter(|(_, m)| **m != 0);
                let values: Vec<f64> = masked.flat_map(|(row, _)| row).copied().collect();
                let shape = vec![values.len() / dim, dim];
                Golden { shape, values }.tensor(self.device)
            }),
            masks: objective
                .masks(&mask, self.method.n_masks, n_positions, self.device)
                .unwrap(),
        }
    }

    fn check_output(
        &self,
        comparison: &mut Comparison<'_>,
        objective: &Data2Vec,
        inputs: &Inputs,
        output: &Output,
        k: usize,
    ) {
        let group = tensors(k);
        comparison.tensor(&format!("target.masked.{k}"), group, output.targets.clone());
        comparison.tensor(
            &format!("pred.masked.{k}"),
            group,
            output.predictions.clone(),
        );
        let loss = scalar(output.loss_sum.clone());
        let loss = if self.method.mean_loss {
            loss / output.count
        } else {
            loss
        };
        comparison.scalar(&format!("loss.{k}"), losses(k), loss);
        for (name, rows) in [
            ("target_var", &output.targets),
            ("pred_var", &output.predictions),
        ] {
            let found = scalar(feature_std(rows.clone()));
            comparison.scalar(&format!("{name}.{k}"), losses(k), found);
        }
        let decay = &self.io[&format!("ema_decay.{k}")];
        let found = self.method.ema.decay(k as u64) * self.method.ema_decay_factor;
        comparison.values(
            &format!("ema_decay.{k}"),
            decay,
            &[found],
            1e-12 * decay.max_abs(),
        );
        check_update(comparison, self.io, objective, inputs, output, k);
    }

    /// Compares the gradients of the first update, before any division or clipping.
    fn check_gradients(&self, comparison: &mut Comparison<'_>, gradients: &Gradients, count: f64) {
        let expected = below(self.io, "grad.");
        let expected = (self.method.student)(expected);
        let divisor = if self.method.mean_loss { count } else { 1.0 };
        let expected = expected.into_iter().map(|(name, data)| {
            let values: Vec<f64> = data.iter::<f64>().collect();
            (
                name,
                Golden {
                    shape: data.shape().to_vec(),
                    values,
                },
            )
        });
        let expected: Goldens = expected.collect();
        let largest = expected.values().map(Golden::max_abs).fold(0.0, f64::max);
        for (name, expected) in expected {
            let Some(found) = gradients.get(&name) else {
                comparison.require(expected.values.is_empty(), || {
                    format!("{name}: no gradient")
                });
                continue;
            };
            let found: Vec<f64> = values(found.clone())
                .into_iter()
                .map(|value| value / divisor)
                .collect();
            let allowed = self.case.tolerance("gradients", "rel_to_max") * expected.max_abs()
                + self.case.tolerance("gradients", "rel_to_largest_gradient") * largest;
            comparison.values(&format!("grad of {name}"), &expected, &found, allowed);
        }
    }

    /// Compares the parameters after `n_steps` updates, if the file has them.
    fn check_parameters(
        &self,
        comparison: &mut Comparison<'_>,
        which: &str,
        n_steps: usize,
        found: &BTreeMap<String, TensorData>,
        lr: f64,
    ) {
        let expected = below(self.io, &format!("{which}.{n_steps}."));
        if expected.is_empty() {
            return;
        }
        let import = match which {
            "ema_after" => self.method.teacher,
            _ => self.method.student,
        };
        let expected = import(expected);
        let tolerance = |key| self.case.tolerance("parameters_after_steps", key);
        let all_within = tolerance("all_within_lr_times_steps") * lr * n_steps as f64;
        let names =
            |tensors: &BTreeMap<String, TensorData>| tensors.keys().cloned().collect::<Vec<_>>();
        comparison.require(names(&expected) == names(found), || {
            format!(
                "{which}.{n_steps}: names differ: {:?} / {:?}",
                names(&expected),
                names(found)
            )
        });
        let (mut n_close, mut n_values) = (0, 0);
        for (name, expected) in &expected {
            let [expected, found] =
                [expected, &found[name]].map(|data| data.iter::<f64>().collect::<Vec<_>>());
            let error = worst_error(&expected, &found);
            comparison.require(error <= all_within, || {
                format!("{which}.{n_steps}.{name}: off by {error:.2e}, {all_within:.2e} is allowed")
            });
            let close = |(e, f): (&f64, &f64)| (e - f).abs() <= tolerance("abs");
            n_close += expected
                .iter()
                .zip(&found)
                .filter(|pair| close(*pair))
                .count();
            n_values += expected.len();
        }
        let share = n_close as f64 / n_values as f64;
        comparison.require(share >= tolerance("share_within"), || {
            format!("{which}.{n_steps}: only {share:.4} of the values are close")
        });
    }
}

/// The tolerance group of the tensors of update k.
pub(crate) fn tensors(k: usize) -> &'static str {
    if k == 0 { "update_0" } else { "updates_1_2" }
}

/// The tolerance group of the losses, variances and norms of update k.
pub(crate) fn losses(k: usize) -> &'static str {
    if k == 0 {
        "losses_and_variances_update_0"
    } else {
        "losses_variances_norms_updates_1_2"
    }
}

pub(crate) fn scalar(tensor: Tensor<1>) -> f64 {
    values(tensor)[0]
}
