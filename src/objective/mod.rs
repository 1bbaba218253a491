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
