//! Pre-training steps: targets, predictions, loss, gradients, and parameters after updates.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};
use understudy::ema;
use understudy::model::ModelConfig;
use understudy::objective::{Data2Vec, Inputs, Output, spread};
use understudy::optim::{AdamW, Decayed, EpsForm, Gradients, OptimConfig};
use understudy::params;
use understudy::schedule::{EmaSchedule, LrSchedule};

use crate::case::{Case, Golden, Goldens, below};
use crate::compare::{Comparison, values, worst_error};
use crate::{v1, v2};

/// What differs between the methods' cases.
pub(crate) struct Method {
    pub(crate) model: ModelConfig,
    pub(crate) optim: OptimConfig,
    pub(crate) ema: EmaSchedule,
    /// Where the pictures are.
    pub(crate) images: &'static str,
    pub(crate) n_masks: usize,
    /// The EMA update after step k has the schedule's k-th value (else the one after).
    pub(crate) ema_from_zero: bool,
    /// The file's loss is divided by the count (else a sum).
    pub(crate) mean_loss: bool,
    /// `ema_decay.k` over τ.
    pub(crate) ema_decay_factor: f64,
    /// From the reference's names to ours.
    pub(crate) import: fn(BTreeMap<String, TensorData>) -> BTreeMap<String, TensorData>,
    /// Checks what only this method has, before the first update and at every update k.
    pub(crate) check_start: fn(&mut Comparison<'_>, &Goldens, &Data2Vec, &Device),
    pub(crate) check_update: fn(&mut Comparison<'_>, &Goldens, &Data2Vec, &Device, &Output, usize),
}

pub(crate) fn check(case: &Case, device: &Device) {
    let io = case.tensors("io.safetensors");
    let method = match case.text("method") {
        "data2vec1" => v1::method(case),
        "data2vec2" => v2::method(case, &io),
        other => panic!("unknown method {other}"),
    };
    assert_eq!(method.model.problems(), Vec::<String>::new());

    let run = |steps: &str, optim: OptimConfig, full: bool| {
        let Some(steps) = case.tensors_if_any(steps) else {
            return;
        };
        // Files of variants have norms of their own.
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
        .go(&mut comparison, optim);
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

/// One run over a case's updates.
struct Run<'a> {
    case: &'a Case,
    method: &'a Method,
    io: &'a Goldens,
    device: &'a Device,
    /// All comparisons, or (for variants of the optimizer) those of norms and parameters alone.
    full: bool,
}

impl Run<'_> {
    fn go(&self, comparison: &mut Comparison<'_>, optim: OptimConfig) {
        let mut objective = self.start();
        if self.full {
            (self.method.check_start)(comparison, self.io, &objective, self.device);
        }
        let mut adamw = AdamW::new(optim);
        // The unclipped run's norms stand in `io.safetensors`, the clipped one's in its own file.
        let has_norms = self.full || optim.clip_norm.is_some();
        for k in 0.. {
            if !self.io.contains_key(&format!("in.mask.{k}")) {
                break;
            }
            let output = objective.forward(self.inputs(&objective, k));
            let mut gradients = Gradients::default();
            gradients.add(&objective.student, output.loss_sum.backward());
            if self.full {
                self.check_output(comparison, &objective, &output, k);
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
            objective.teacher = ema::update(
                objective.teacher,
                &objective.student,
                decay,
                Data2Vec::ema_scope,
            );
            let n_steps = k + 1;
            let student = params::collect(&objective.student);
            self.check_parameters(comparison, "param_after", n_steps, &student, optim.lr);
            let teacher = params::collect(&objective.teacher);
            self.check_parameters(comparison, "ema_after", n_steps, &teacher, optim.lr);
        }
    }

    /// Student and teacher as the case has them; they differ.
    fn start(&self) -> Data2Vec {
        let weights = self.case.tensors("weights.safetensors");
        let (teacher, student): (Goldens, Goldens) = weights
            .into_iter()
            .partition(|(name, _)| name.starts_with("_ema."));
        let import = self.method.import;
        let objective = Data2Vec::new(self.method.model.clone(), self.device);
        Data2Vec {
            student: params::load(objective.student, import(below(&student, ""))).unwrap(),
            teacher: params::load(objective.teacher, import(below(&teacher, "_ema."))).unwrap(),
            config: objective.config,
        }
    }

    fn inputs(&self, objective: &Data2Vec, k: usize) -> Inputs {
        let mask = self.io[&format!("in.mask.{k}")].bytes();
        Inputs {
            images: self.io[self.method.images].tensor(self.device),
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
                .masks(&mask, self.method.n_masks, self.device)
                .unwrap(),
        }
    }

    fn check_output(
        &self,
        comparison: &mut Comparison<'_>,
        objective: &Data2Vec,
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
            let found = scalar(spread(rows.clone()));
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
        (self.method.check_update)(comparison, self.io, objective, self.device, output, k);
    }

    /// The gradients of the first update, before any division or clipping.
    fn check_gradients(&self, comparison: &mut Comparison<'_>, gradients: &Gradients, count: f64) {
        let expected = below(self.io, "grad.");
        let expected = (self.method.import)(expected);
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

    /// Parameters after `n_steps` updates, where the file has them.
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
        let expected = (self.method.import)(expected);
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

/// The group of tolerances of an update's tensors.
pub(crate) fn tensors(k: usize) -> &'static str {
    if k == 0 { "update_0" } else { "updates_1_2" }
}

/// The group of tolerances of an update's losses, variances and norms.
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

/// The optimizer of a case, with a constant rate.
pub(crate) fn optim(case: &Case) -> OptimConfig {
    let config = &case.config["optimizer"];
    let number = |key: &str| {
        config[key]
            .as_f64()
            .unwrap_or_else(|| panic!("optimizer.{key}"))
    };
    let (eps_form, decayed) = match config["name"].as_str().unwrap() {
        "torch AdamW" => (EpsForm::AfterCorrection, Decayed::Matrices),
        "fairseq adam" => (EpsForm::BeforeCorrection, Decayed::All),
        other => panic!("unknown optimizer {other}"),
    };
    OptimConfig {
        lr: number("lr"),
        betas: [0, 1].map(|i| config["betas"][i].as_f64().unwrap()),
        eps: number("eps"),
        eps_form,
        weight_decay: number("weight_decay"),
        decayed,
        clip_norm: None,
        // Not asked: each step is given its rate.
        schedule: LrSchedule::Cosine {
            warmup_steps: 0,
            final_lr: 0.0,
        },
    }
}

/// A number that the case's config must have.
pub(crate) fn number(value: &serde_json::Value, key: &str) -> f64 {
    value[key]
        .as_f64()
        .unwrap_or_else(|| panic!("config.json has no number `{key}`"))
}

/// A size that the case's config must have.
pub(crate) fn size(value: &serde_json::Value, key: &str) -> usize {
    number(value, key) as usize
}
