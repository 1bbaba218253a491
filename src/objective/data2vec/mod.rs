//! data2vec: a student that sees part of a sample predicts what its teacher made of all of it.
//!
//! One objective for both methods and all media; what differs lies in the encoders and in the
//! config. Losses are sums over masked positions. A step divides its gradients by the number of
//! masked positions in all its micro-batches and ranks, so that neither changes the objective.

pub(crate) mod network;
mod targets;
#[cfg(test)]
mod tests;
mod v1;
mod v2;

use burn::tensor::{Device, Int, Tensor};

use super::config::ModelConfig;
use super::loss::error_sum;
use crate::init;
use crate::model::{EncoderConfig, EncoderInput, MaskError, Masks, View};
use crate::optim::ema::Scope;
use network::Network;
use targets::Average;

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
    /// What the teacher sees, on the plain device.
    pub media: EncoderInput,
    /// What the student of 1.0 sees of text: `[B, L]`, some tokens replaced.
    pub student_tokens: Option<Tensor<2, Int>>,
    /// Which positions the student does not see.
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
    /// Masked positions, over all masks of all samples.
    pub count: f64,
    /// The part of `loss_sum` for positions, `[1]`, untracked.
    pub regression_sum: Tensor<1>,
    /// The part for the class token with its weight, `[1]`, untracked (2.0 on images alone).
    pub cls_sum: Option<Tensor<1>>,
    /// What was to be predicted, `[masked, D]`.
    pub targets: Tensor<2>,
    /// What was predicted, `[masked, D]`, untracked.
    pub predictions: Tensor<2>,
    /// The student's patches, frames or tokens before they know of each other, `[B·N, D]`,
    /// untracked: a collapse may begin there while targets and predictions still vary.
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
        let teacher = student.as_teacher(&config);
        Self {
            config,
            student,
            teacher,
        }
    }

    /// The masks of a micro-batch on the student's device.
    ///
    /// `masks` holds `n_masks` rows of `n_positions` per sample, 1 = masked.
    pub fn masks(
        &self,
        masks: &[u8],
        n_masks: usize,
        n_positions: usize,
        device: &Device,
    ) -> Result<Masks, MaskError> {
        let masks = Masks::new(masks, n_masks, n_positions, device)?;
        match self.config {
            ModelConfig::Data2vec2(_) => masks.require_equal_rows(),
            ModelConfig::Data2vec1(_) => Ok(masks),
        }
    }

    /// What the student makes of media before any position knows of another, `[B, N, D]`, tracked.
    ///
    /// # Panics
    ///
    /// If the media are not the encoder's.
    pub fn local(&self, media: &EncoderInput) -> Tensor<3> {
        let local = self.student.encoder.local(media);
        local.expect("a student looks at media itself")
    }

    /// What the teacher makes of media, `[B, N, D]`: outputs of its last blocks, averaged.
    ///
    /// # Shapes
    ///
    /// - local: [`Self::local`] of the same media, `[B, N, D]`, which teachers of audio and of 2.0's
    ///   text start from, unless they have their own
    pub fn targets(&self, media: &EncoderInput, local: &Tensor<3>) -> Tensor<3> {
        let encoder = &self.teacher.encoder;
        let config = self.config.encoder();
        let local = match encoder.local(media) {
            Some(own) => own,
            None => local.clone().inner(),
        };
        let padding = media.padding(config);
        let sequence = encoder.sequence(local, View::All, padding.as_ref());
        let mut average = Average::new(self.config.targets(), config.depth());
        encoder.run(sequence, &mut |block_idx, output| {
            average.add(block_idx, || {
                encoder.without_extra(match config {
                    EncoderConfig::Beit(_) => output.hidden.clone(),
                    _ => output.ffn.clone(),
                })
            });
        });
        average.finish()
    }

    /// The loss of one micro-batch.
    pub fn forward(&self, inputs: Inputs) -> Output {
        let Inputs {
            media,
            student_tokens,
            masks,
            noise,
        } = inputs;
        let padding = media.padding(self.config.encoder());
        let padding = padding.as_ref();
        let local = match (&media, student_tokens) {
            (EncoderInput::Tokens { lengths, .. }, Some(tokens)) => {
                self.local(&EncoderInput::Tokens {
                    tokens,
                    lengths: lengths.clone(),
                })
            }
            _ => self.local(&media),
        };
        let all_targets = self.targets(&media, &local);
        let [b, n, dim] = all_targets.dims();

        let student = &self.student;
        let (predictions, cls_sum) = match &self.config {
            ModelConfig::Data2vec1(_) => {
                let predictions = v1::predict(student, local.clone(), padding, &masks);
                (predictions, None)
            }
            ModelConfig::Data2vec2(config) => {
                let predicted = v2::predict(config, student, local.clone(), padding, &masks, noise);
                let cls_sum = predicted
                    .class_tokens
                    .filter(|_| config.cls_loss_weight > 0.0)
                    .map(|tokens| {
                        v2::class_token_loss(config, tokens, all_targets.clone(), &masks)
                    });
                (predicted.predictions, cls_sum)
            }
        };
        let targets = all_targets
            .reshape([b * n, dim])
            .select(0, masks.ids_masked.clone());
        let regression_sum = error_sum(
            predictions.clone(),
            targets.clone(),
            self.config.loss_beta(),
        )
        .mul_scalar(self.config.loss_scale());
        Output {
            loss_sum: match &cls_sum {
                Some(cls_sum) => regression_sum.clone() + cls_sum.clone(),
                None => regression_sum.clone(),
            },
            count: masks.n_masked as f64,
            regression_sum: regression_sum.inner(),
            cls_sum: cls_sum.map(Tensor::inner),
            targets,
            predictions: predictions.inner(),
            local: local.inner().reshape([b * n, dim]),
        }
    }

    /// What becomes of a teacher's parameter at an update. All are averaged, for images the mask
    /// token and the head of 1.0 included, as the reference does; but in 1.0 teachers share their
    /// student's embedding of tokens and, on speech, its positional convolutions.
    pub fn ema_scope(config: &ModelConfig, name: &str) -> Scope {
        let is_shared = match config.encoder() {
            EncoderConfig::Audio(config) => {
                config.shared_pos_conv && name.starts_with("encoder.pos_conv.")
            }
            EncoderConfig::Text(_) => {
                matches!(config, ModelConfig::Data2vec1(_)) && name.starts_with("encoder.embed.")
            }
            EncoderConfig::Beit(_) | EncoderConfig::Vit(_) => false,
        };
        if is_shared {
            Scope::Copy
        } else {
            Scope::Average
        }
    }
}
