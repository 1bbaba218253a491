//! data2vec: a student that sees a masked sample predicts the features that its teacher computes
//! from the full sample.
//!
//! There is one objective for both methods and all modalities; the encoders and the config hold the
//! differences. Losses are sums over masked positions. A step divides its gradients by the number
//! of masked positions in all its micro-batches and ranks, so that neither changes the objective.

pub(crate) mod network;
mod targets;
#[cfg(test)]
mod tests;
mod v1;
mod v2;

use burn::tensor::{Device, Int, Tensor};

use super::config::{ModelConfig, TargetOutput};
use super::loss::error_sum;
use crate::init;
use crate::model::{EncoderConfig, EncoderInput, MaskError, Masks, View};
use crate::optim::ema::Scope;
use network::Network;
use targets::Average;

/// A student, its teacher, and the loss between them.
#[derive(Debug)]
pub struct Data2Vec {
    /// The config that both were built from.
    pub config: ModelConfig,
    /// The trained network, on the autodiff device.
    pub student: Network,
    /// The moving average of the student, on the plain device.
    pub teacher: Network,
}

/// One micro-batch on the device.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// The full samples, which the teacher sees, on the plain device.
    pub input: EncoderInput,
    /// The tokens that the student of 1.0 sees, `[B, L]`: those of the text with some replaced.
    pub student_tokens: Option<Tensor<2, Int>>,
    /// The positions that the student does not see.
    pub masks: Masks,
    /// The decoder's input at masked positions, in the order of [`Masks`], `[masked, D]` (only 2.0).
    /// None draws noise from the device's generator.
    pub noise: Option<Tensor<2>>,
}

/// The result of a micro-batch. All tensors stay on the device: reading one waits for it.
#[derive(Debug, Clone)]
pub struct Output {
    /// The loss, `[1]`, tracked; `loss_sum / count` is the reference's loss.
    pub loss_sum: Tensor<1>,
    /// Number of masked positions over all masks of all samples.
    pub count: f64,
    /// The term of `loss_sum` for positions, `[1]`, untracked.
    pub regression_sum: Tensor<1>,
    /// The weighted term for the class token, `[1]`, untracked (only 2.0 on images).
    pub cls_sum: Option<Tensor<1>>,
    /// The targets, `[masked, D]`.
    pub targets: Tensor<2>,
    /// The predictions, `[masked, D]`, untracked.
    pub predictions: Tensor<2>,
    /// The student's local features, `[B·N, D]`, untracked: a collapse may begin there while targets
    /// and predictions still vary.
    pub local: Tensor<2>,
}

impl Data2Vec {
    /// Builds student and teacher without values: `params::load` writes them.
    pub fn new(config: ModelConfig, device: &Device) -> Self {
        let plain = device.clone().without_autodiff();
        Self {
            student: Network::student(&config, &plain.clone().autodiff()),
            teacher: Network::teacher(&config, &plain),
            config,
        }
    }

    /// Builds a student with initial values drawn by `seed`, and its teacher.
    pub fn initialised(config: ModelConfig, seed: u64, device: &Device) -> Self {
        let Self {
            config, student, ..
        } = Self::new(config, device);
        let student = init::network(student, &config, seed);
        Self::from_student(config, student)
    }

    /// Pairs a student with a teacher of the same values.
    pub fn from_student(config: ModelConfig, student: Network) -> Self {
        let teacher = student.as_teacher(&config);
        Self {
            config,
            student,
            teacher,
        }
    }

    /// Builds the masks of a micro-batch on `device`.
    ///
    /// `masks` holds `n_masks` rows of `n_positions` values per sample, 1 = masked.
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

    /// Returns the local features, `[B, N, D]`, tracked: the student's output before any attention.
    ///
    /// # Panics
    ///
    /// If the input is of another modality.
    pub fn local(&self, input: &EncoderInput) -> Tensor<3> {
        let local = self.student.encoder.local(input);
        local.expect("a student has local features of its own")
    }

    /// Returns the targets, `[B, N, D]`: the averaged outputs of the teacher's last blocks.
    ///
    /// # Shapes
    ///
    /// - local: [`Self::local`] of the same input, `[B, N, D]`, used by teachers that have no local
    ///   features of their own (audio, and text of 2.0)
    pub fn targets(&self, input: &EncoderInput, local: &Tensor<3>) -> Tensor<3> {
        let encoder = &self.teacher.encoder;
        let config = self.config.encoder();
        let local = match encoder.local(input) {
            Some(own) => own,
            None => local.clone().inner(),
        };
        let padding = input.padding(config);
        let sequence = encoder.sequence(local, View::All, padding.as_ref());
        let target_output = self.config.target_output();
        let mut average = Average::new(self.config.targets(), config.depth());
        encoder.run(sequence, &mut |block_idx, output| {
            average.add(block_idx, || {
                encoder.without_extra(match target_output {
                    TargetOutput::Block => output.hidden.clone(),
                    TargetOutput::Mlp => output.ffn.clone(),
                })
            });
        });
        average.finish()
    }

    /// Computes the loss of one micro-batch.
    pub fn forward(&self, inputs: Inputs) -> Output {
        let Inputs {
            input,
            student_tokens,
            masks,
            noise,
        } = inputs;
        let padding = input.padding(self.config.encoder());
        let padding = padding.as_ref();
        let local = match (&input, student_tokens) {
            (EncoderInput::Tokens { lengths, .. }, Some(tokens)) => {
                self.local(&EncoderInput::Tokens {
                    tokens,
                    lengths: lengths.clone(),
                })
            }
            _ => self.local(&input),
        };
        let all_targets = self.targets(&input, &local);
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
                        let scale = self.config.loss_scale();
                        v2::class_token_loss(config, scale, tokens, all_targets.clone(), &masks)
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

    /// Returns how an update changes the teacher's parameter `name`.
    ///
    /// All are averaged, for images including the mask token and the head of 1.0, as in the
    /// reference. In 1.0, however, teachers copy their student's token embedding and, on speech, its
    /// positional convolutions.
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
