//! data2vec: a student that sees part of a sample predicts what its teacher made of all of it.
//!
//! One objective for both methods and all media; what differs lies in the encoders and in the
//! config. Losses are sums over masked positions. A step divides its gradients by the number of
//! masked positions in all its micro-batches and ranks, so that neither changes the objective.

mod loss;
mod targets;
mod v1;
mod v2;

pub use crate::model::{MaskError, Masks};
pub use loss::spread;

use burn::tensor::{Device, Int, Tensor};

use crate::ema::Scope;
use crate::init;
use crate::model::{EncoderConfig, Media, ModelConfig, Network, View};
use loss::error_sum;
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
    pub media: Media,
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
        let teacher = student.as_teacher();
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
    pub fn local(&self, media: &Media) -> Tensor<3> {
        let local = self.student.encoder.local(media);
        local.expect("a student looks at media itself")
    }

    /// What the teacher makes of media, `[B, N, D]`: outputs of its last blocks, averaged.
    ///
    /// # Shapes
    ///
    /// - local: [`Self::local`] of the same media, `[B, N, D]`, which teachers of audio and of 2.0's
    ///   text start from
    pub fn targets(&self, media: &Media, local: &Tensor<3>) -> Tensor<3> {
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
                    EncoderConfig::Vit1(_) => output.hidden.clone(),
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
            (Media::Tokens { lengths, .. }, Some(tokens)) => self.local(&Media::Tokens {
                tokens,
                lengths: lengths.clone(),
            }),
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
            .select(0, masks.masked_of_samples.clone());
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
            EncoderConfig::Text(_) => name.starts_with("encoder.embed."),
            EncoderConfig::Vit1(_) | EncoderConfig::Vit2(_) => false,
        };
        if is_shared {
            Scope::Copy
        } else {
            Scope::Average
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::module::Module;
    use burn::tensor::TensorData;

    use super::*;
    use crate::model::config::tests::{all, tiny1, tiny2};
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

    /// Media of 16 positions each.
    fn media(config: &ModelConfig, n_samples: usize, device: &Device) -> Media {
        match config.encoder() {
            EncoderConfig::Vit1(_) | EncoderConfig::Vit2(_) => {
                Media::Images(values([n_samples, 3, 16, 16], device))
            }
            EncoderConfig::Audio(_) => Media::Waves {
                waves: values([n_samples, 103], device),
                lengths: None,
            },
            EncoderConfig::Text(_) => Media::Tokens {
                tokens: tokens(n_samples, device),
                lengths: None,
            },
        }
    }

    fn tokens(n_samples: usize, device: &Device) -> Tensor<2, Int> {
        let ids: Vec<i64> = (0..n_samples * 16)
            .map(|i| 2 + (i * 7 % 38) as i64)
            .collect();
        Tensor::from_data(TensorData::new(ids, [n_samples, 16]), device)
    }

    fn samples(media: &Media, from: usize, n: usize) -> Media {
        match media {
            Media::Images(images) => Media::Images(images.clone().narrow(0, from, n)),
            Media::Waves { waves, .. } => Media::Waves {
                waves: waves.clone().narrow(0, from, n),
                lengths: None,
            },
            Media::Tokens { tokens, .. } => Media::Tokens {
                tokens: tokens.clone().narrow(0, from, n),
                lengths: None,
            },
        }
    }

    fn inputs(objective: &Data2Vec, n_samples: usize, n_masks: usize, device: &Device) -> Inputs {
        let masks = objective
            .masks(&masks(n_samples * n_masks), n_masks, 16, device)
            .unwrap();
        Inputs {
            media: media(&objective.config, n_samples, device),
            student_tokens: None,
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
            media: samples(&whole.media, which * n, n),
            student_tokens: None,
            masks: objective
                .masks(
                    &all[which * n_values..][..n_values],
                    whole.masks.n_masks,
                    16,
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
        for config in all() {
            let n_masks = match config {
                ModelConfig::Data2vec1(_) => 1,
                ModelConfig::Data2vec2(_) => 3,
            };
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
    fn the_teacher_is_not_tracked() {
        let device = Device::flex();
        for config in all() {
            let objective = Data2Vec::initialised(config, 1, &device);
            let media = media(&objective.config, 2, &device);
            let targets = objective.targets(&media, &objective.local(&media));
            assert!(!targets.is_autodiff());
            assert_eq!(targets.dims(), [2, 16, 16]);
            let student = objective.student.valid();
            let features = student.features(&objective.config, &media);
            assert_eq!(features.dims(), [2, 16, 16]);
        }
    }

    #[test]
    fn what_pads_a_sample_changes_nothing_of_it() {
        let device = Device::flex();
        for config in &all()[2..] {
            let student = Data2Vec::initialised(config.clone(), 1, &device)
                .student
                .valid();
            let of = |media: &Media| student.features(config, media);
            // The first sample ends after 8 positions, once alone and once padded.
            let (short, padded) = match media(config, 2, &device) {
                Media::Waves { waves, .. } => {
                    let short = waves.clone().narrow(0, 0, 1).narrow(1, 0, 55);
                    let zeros = Tensor::zeros([1, 48], &device);
                    let padded = Tensor::cat(vec![short.clone(), zeros], 1);
                    let waves = Tensor::cat(vec![padded, waves.narrow(0, 1, 1)], 0);
                    let lengths = Some(vec![55, 103]);
                    (
                        Media::Waves {
                            waves: short,
                            lengths: None,
                        },
                        Media::Waves { waves, lengths },
                    )
                }
                Media::Tokens { tokens, .. } => {
                    let short = tokens.clone().narrow(0, 0, 1).narrow(1, 0, 8);
                    let pads = Tensor::ones([1, 8], &device);
                    let padded = Tensor::cat(vec![short.clone(), pads], 1);
                    let tokens = Tensor::cat(vec![padded, tokens.narrow(0, 1, 1)], 0);
                    let lengths = Some(vec![8, 16]);
                    (
                        Media::Tokens {
                            tokens: short,
                            lengths: None,
                        },
                        Media::Tokens { tokens, lengths },
                    )
                }
                Media::Images(_) => unreachable!(),
            };
            let alone = of(&short);
            let padded = of(&padded).narrow(0, 0, 1).narrow(1, 0, 8);
            let difference = (alone - padded).abs().max().into_scalar::<f32>();
            assert!(difference < 1e-5, "{difference}");
        }
    }

    #[test]
    fn dropout_and_layer_drop_act_on_the_student_alone() {
        let device = Device::flex();
        for mut config in all() {
            let encoder = match &mut config {
                ModelConfig::Data2vec1(config) => (&mut config.audio, &mut config.text),
                ModelConfig::Data2vec2(config) => (&mut config.audio, &mut config.text),
            };
            let drops_layers = match encoder {
                (Some(audio), None) => {
                    audio.layer_drop_prob = 0.3;
                    true
                }
                (None, Some(text)) => {
                    text.drop_prob = 0.3;
                    false
                }
                _ => continue,
            };
            let objective = Data2Vec::initialised(config, 1, &device);
            let inputs = inputs(&objective, 2, 1, &device);
            let student = |seed| {
                device.seed(seed);
                let loss = objective.forward(inputs.clone()).loss_sum;
                loss.into_scalar::<f32>().to_bits()
            };
            let losses: Vec<u32> = (0..8).map(student).collect();
            assert_eq!(losses[3], student(3), "a step's seed decides");
            assert!(losses.iter().any(|&loss| loss != losses[0]));
            let plain = objective.student.valid();
            let features = || {
                let features = plain.features(&objective.config, &inputs.media);
                features.into_data().iter::<f32>().collect::<Vec<_>>()
            };
            assert_eq!(features(), features(), "layers: {drops_layers}");
        }
    }

    #[test]
    fn shared_parameters_are_copied() {
        let [_, _, audio1, audio2, text1, _] = all();
        let scope = Data2Vec::ema_scope;
        assert_eq!(scope(&audio1, "encoder.pos_conv.0.weight"), Scope::Copy);
        assert_eq!(
            scope(&audio1, "encoder.blocks.0.attn.qkv.weight"),
            Scope::Average
        );
        assert_eq!(scope(&audio2, "encoder.pos_conv.0.weight"), Scope::Average);
        assert_eq!(scope(&text1, "encoder.embed.tokens"), Scope::Copy);
        assert_eq!(scope(&text1, "encoder.blocks.0.norm1.bias"), Scope::Average);
        assert_eq!(scope(&tiny1(), "encoder.mask_token"), Scope::Average);
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
        let of = |config| Data2Vec::new(config, &device).masks(&masks, 1, 16, &device);
        assert!(of(tiny1()).is_ok());
        assert_eq!(of(tiny2()).unwrap_err(), MaskError::UnequalRows);
    }
}
