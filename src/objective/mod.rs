//! data2vec: a student that sees part of a picture predicts what its teacher made of all of it.
//!
//! Losses are sums over masked patches. A step divides its gradients by the number of masked
//! patches in all its micro-batches and ranks, so that neither changes the objective.

mod loss;
mod masks;
mod targets;
mod v1;
mod v2;

pub use loss::spread;
pub use masks::{MaskError, Masks};

use burn::tensor::{Device, Tensor};

use crate::ema::Scope;
use crate::init;
use crate::model::{ModelConfig, Network};

/// A student, its teacher, and what the one learns from the other.
#[derive(Debug)]
pub struct Data2Vec {
    /// What was built.
    pub config: ModelConfig,
    /// Trained; on the autodiff device.
    pub student: Network,
    /// The student's average; on the plain device.
    pub teacher: Network,
}

/// One micro-batch on the device.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// Normalised pictures, `[B, 3, side, side]`, on the plain device.
    pub images: Tensor<4>,
    /// Which patches the student does not see.
    pub masks: Masks,
    /// What fills the decoder's masked positions, in the order of [`Masks`], `[masked, D]` (2.0
    /// alone). None: fresh noise from the device's generator.
    pub noise: Option<Tensor<2>>,
}

/// What a micro-batch gives. All tensors stay on the device: reading one waits for it.
#[derive(Debug, Clone)]
pub struct Output {
    /// The loss, `[1]`, tracked; `loss_sum / count` is the reference's loss.
    pub loss_sum: Tensor<1>,
    /// Masked patches, over all masks of all pictures.
    pub count: f64,
    /// The part of `loss_sum` for patches, `[1]`, untracked.
    pub regression_sum: Tensor<1>,
    /// The part for the class token with its weight, `[1]`, untracked (2.0 alone).
    pub cls_sum: Option<Tensor<1>>,
    /// What was to be predicted, `[masked, D]`.
    pub targets: Tensor<2>,
    /// What was predicted, `[masked, D]`, untracked.
    pub predictions: Tensor<2>,
    /// The student's patches before positions and blocks, `[B·N, D]`, untracked: a collapse may
    /// begin there while targets and predictions still vary.
    pub local: Tensor<2>,
}

impl Data2Vec {
    /// Student and teacher without values: `params::load` writes them.
    pub fn new(config: ModelConfig, device: &Device) -> Self {
        let plain = device.clone().without_autodiff();
        Self {
            student: Network::student(&config, &plain.clone().autodiff()),
            teacher: Network::teacher(&config, &plain),
            config,
        }
    }

    /// A student initialised by `seed`, and its teacher.
    pub fn initialised(config: ModelConfig, seed: u64, device: &Device) -> Self {
        let Self {
            config, student, ..
        } = Self::new(config, device);
        let student = init::network(student, &config, seed);
        Self::from_student(config, student)
    }

    /// A student and a teacher that equals it.
    pub fn from_student(config: ModelConfig, student: Network) -> Self {
        let teacher = student.as_teacher();
        Self {
            config,
            student,
            teacher,
        }
    }

    /// The masks of a micro-batch on the student's device.
    ///
    /// `masks` holds `n_masks` rows per picture, 1 = masked.
    pub fn masks(&self, masks: &[u8], n_masks: usize, device: &Device) -> Result<Masks, MaskError> {
        let masks = Masks::new(masks, n_masks, self.config.grid().pow(2), device)?;
        match self.config {
            ModelConfig::Data2vec2(_) => masks.require_equal_rows(),
            ModelConfig::Data2vec1(_) => Ok(masks),
        }
    }

    /// What the teacher makes of pictures.
    ///
    /// # Shapes
    ///
    /// - images: `[B, 3, side, side]`; output: `[B, N, D]`
    pub fn targets(&self, images: Tensor<4>) -> Tensor<3> {
        match (&self.config, &self.teacher) {
            (ModelConfig::Data2vec1(config), Network::V1(teacher)) => {
                v1::targets(config, teacher, images)
            }
            (ModelConfig::Data2vec2(config), Network::V2(teacher)) => {
                v2::targets(config, teacher, images)
            }
            _ => unreachable!("a network is built from its config"),
        }
    }

    /// The loss of one micro-batch.
    pub fn forward(&self, inputs: Inputs) -> Output {
        let targets = self.targets(inputs.images.clone());
        match (&self.config, &self.student) {
            (ModelConfig::Data2vec1(config), Network::V1(student)) => {
                v1::forward(config, student, targets, inputs)
            }
            (ModelConfig::Data2vec2(config), Network::V2(student)) => {
                v2::forward(config, student, targets, inputs)
            }
            _ => unreachable!("a network is built from its config"),
        }
    }

    /// What becomes of a teacher's parameter at an update: for images all of them are averaged,
    /// the mask token and the head of 1.0 included, as the reference does.
    pub fn ema_scope(name: &str) -> Scope {
        if name.starts_with("decoder.") {
            Scope::Ignore
        } else {
            Scope::Average
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;

    use super::*;
    use crate::model::config::tests::{tiny1, tiny2};
    use crate::optim::Gradients;

    /// Deterministic values that look random.
    fn values<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
        let n: usize = shape.iter().product();
        let values: Vec<f32> = (0..n).map(|i| (i as f32 * 12.9898).sin() * 1.5).collect();
        Tensor::from_data(TensorData::new(values, shape), device)
    }

    /// Masks of 16 patches that hide 11; no two rows are equal.
    fn masks(n_rows: usize) -> Vec<u8> {
        let row = |row: usize| (0..16).map(move |patch| u8::from((patch * 3 + row) % 16 >= 5));
        (0..n_rows).flat_map(row).collect()
    }

    fn inputs(objective: &Data2Vec, n_samples: usize, n_masks: usize, device: &Device) -> Inputs {
        let masks = objective
            .masks(&masks(n_samples * n_masks), n_masks, device)
            .unwrap();
        Inputs {
            images: values([n_samples, 3, 16, 16], device),
            noise: Some(values([masks.n_masked, 16], device)),
            masks,
        }
    }

    /// Half of the samples of `whole`.
    fn half(objective: &Data2Vec, whole: &Inputs, which: usize, device: &Device) -> Inputs {
        let n = whole.masks.n_samples / 2;
        let n_values = n * whole.masks.n_masks * 16;
        let all = masks(whole.masks.n_rows());
        let n_masked = whole.masks.n_masked / 2;
        Inputs {
            images: whole.images.clone().narrow(0, which * n, n),
            masks: objective
                .masks(
                    &all[which * n_values..][..n_values],
                    whole.masks.n_masks,
                    device,
                )
                .unwrap(),
            noise: whole
                .noise
                .clone()
                .map(|noise| noise.narrow(0, which * n_masked, n_masked)),
        }
    }

    #[test]
    fn a_split_batch_has_the_same_loss_and_gradients() {
        let device = Device::flex();
        for (config, n_masks) in [(tiny1(), 1), (tiny2(), 3)] {
            let objective = Data2Vec::initialised(config, 1, &device);
            let whole = inputs(&objective, 4, n_masks, &device);
            let halves = [0, 1].map(|which| half(&objective, &whole, which, &device));
            let run = |parts: &[Inputs]| {
                let (mut gradients, mut loss, mut count) = (Gradients::default(), 0.0, 0.0);
                for inputs in parts {
                    let output = objective.forward(inputs.clone());
                    gradients.add(&objective.student, output.loss_sum.backward());
                    loss += output.loss_sum.into_scalar::<f32>();
                    count += output.count;
                }
                (
                    gradients.finish(count, None).into_scalar::<f32>(),
                    loss,
                    count,
                )
            };
            let (norm, loss, count) = run(&[whole]);
            let (split_norm, split_loss, split_count) = run(&halves);
            let near = |a: f32, b: f32| (a / b - 1.0).abs() < 1e-4;
            assert!(near(norm, split_norm), "{norm} {split_norm}");
            assert!(near(loss, split_loss), "{loss} {split_loss}");
            assert!((count - split_count).abs() < 0.5);
        }
    }

    #[test]
    fn the_teacher_is_not_tracked_and_shares_nothing() {
        let device = Device::flex();
        for config in [tiny1(), tiny2()] {
            let objective = Data2Vec::initialised(config, 1, &device);
            let images = values([2, 3, 16, 16], &device);
            let targets = objective.targets(images.clone());
            assert!(!targets.is_autodiff());
            assert_eq!(targets.dims(), [2, 16, 16]);
            assert_eq!(objective.teacher.features(images).dims(), [2, 16, 16]);
        }
    }

    #[test]
    fn noise_is_drawn_where_none_is_given() {
        let device = Device::flex();
        let objective = Data2Vec::initialised(tiny2(), 1, &device);
        let given = inputs(&objective, 2, 2, &device);
        let drawn = Inputs {
            noise: None,
            ..given.clone()
        };
        let loss = |inputs: Inputs| objective.forward(inputs).loss_sum.into_scalar::<f32>();
        let (first, second) = (loss(drawn.clone()), loss(drawn));
        assert!(first.is_finite() && first.to_bits() != second.to_bits());
        let (first, second) = (loss(given.clone()), loss(given));
        assert_eq!(first.to_bits(), second.to_bits());
    }

    #[test]
    fn masks_of_unequal_rows_serve_1_0_alone() {
        let device = Device::flex();
        let mut masks = masks(2);
        masks[0] ^= 1;
        let of = |config| Data2Vec::new(config, &device).masks(&masks, 1, &device);
        assert!(of(tiny1()).is_ok());
        assert_eq!(of(tiny2()).unwrap_err(), MaskError::UnequalRows);
    }
}
