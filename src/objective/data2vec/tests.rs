//! Every model on a few samples.

mod options;

use std::sync::PoisonError;

use burn::module::Module;
use burn::tensor::TensorData;

use super::*;
use crate::objective::config::tests::{all, tiny1, tiny2};
use crate::objective::config::{Data2Vec1Config, Data2Vec2Config};
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

/// Samples of 16 positions each.
fn input(config: &ModelConfig, n_samples: usize, device: &Device) -> EncoderInput {
    match config.encoder() {
        EncoderConfig::Beit(_) | EncoderConfig::Vit(_) => {
            EncoderInput::Images(values([n_samples, 3, 16, 16], device))
        }
        EncoderConfig::Audio(_) => EncoderInput::Waveforms {
            waveforms: values([n_samples, 103], device),
            lengths: None,
        },
        EncoderConfig::Text(_) => EncoderInput::Tokens {
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

fn samples(input: &EncoderInput, from: usize, n: usize) -> EncoderInput {
    match input {
        EncoderInput::Images(images) => EncoderInput::Images(images.clone().narrow(0, from, n)),
        EncoderInput::Waveforms { waveforms, .. } => EncoderInput::Waveforms {
            waveforms: waveforms.clone().narrow(0, from, n),
            lengths: None,
        },
        EncoderInput::Tokens { tokens, .. } => EncoderInput::Tokens {
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
        input: input(&objective.config, n_samples, device),
        student_tokens: None,
        noise: Some(values([masks.n_masked, 16], device)),
        masks,
    }
}

/// Returns the first or second half of the samples of `full`.
fn half(objective: &Data2Vec, full: &Inputs, which: usize, device: &Device) -> Inputs {
    let n = full.masks.n_samples / 2;
    let n_values = n * full.masks.n_masks * 16;
    let all = masks(full.masks.n_rows());
    let n_masked = full.masks.n_masked / 2;
    Inputs {
        input: samples(&full.input, which * n, n),
        student_tokens: None,
        masks: objective
            .masks(
                &all[which * n_values..][..n_values],
                full.masks.n_masks,
                16,
                device,
            )
            .unwrap(),
        noise: full
            .noise
            .clone()
            .map(|noise| noise.narrow(0, which * n_masked, n_masked)),
    }
}

#[test]
fn micro_batches_sum_to_the_loss_and_gradients_of_the_batch() {
    let device = Device::flex();
    for config in all() {
        let n_masks = match config {
            ModelConfig::Data2vec1(_) => 1,
            ModelConfig::Data2vec2(_) => 3,
        };
        let objective = Data2Vec::initialised(config, 1, &device);
        let full = inputs(&objective, 4, n_masks, &device);
        let halves = [0, 1].map(|which| half(&objective, &full, which, &device));
        let run = |micro_batches: &[Inputs]| {
            let (mut gradients, mut loss, mut count) = (Gradients::default(), 0.0, 0.0);
            for inputs in micro_batches {
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
        let (norm, loss, count) = run(&[full]);
        let (split_norm, split_loss, split_count) = run(&halves);
        let near = |a: f32, b: f32| (a / b - 1.0).abs() < 1e-4;
        assert!(near(norm, split_norm), "{norm} {split_norm}");
        assert!(near(loss, split_loss), "{loss} {split_loss}");
        assert!((count - split_count).abs() < 0.5);
    }
}

#[test]
fn targets_are_not_tracked_by_autodiff() {
    let device = Device::flex();
    for config in all() {
        let objective = Data2Vec::initialised(config, 1, &device);
        let input = input(&objective.config, 2, &device);
        let targets = objective.targets(&input, &objective.local(&input));
        assert!(!targets.is_autodiff());
        assert_eq!(targets.dims(), [2, 16, 16]);
        let student = objective.student.valid();
        let features = student.encoder.features(objective.config.encoder(), &input);
        assert_eq!(features.dims(), [2, 16, 16]);
    }
}

#[test]
fn padding_does_not_change_features() {
    let device = Device::flex();
    for mut config in all().into_iter().skip(2) {
        // Padding is cleared once: a second convolution would carry the output of the first at padding.
        if let ModelConfig::Data2vec1(Data2Vec1Config {
            audio: Some(audio), ..
        })
        | ModelConfig::Data2vec2(Data2Vec2Config {
            audio: Some(audio), ..
        }) = &mut config
        {
            audio.pos_conv_depth = 1;
        }
        let config = &config;
        let student = Data2Vec::initialised(config.clone(), 1, &device)
            .student
            .valid();
        let of = |input: &EncoderInput| student.encoder.features(config.encoder(), input);
        // The first sample ends after 8 positions, once alone and once padded.
        let (short, padded) = match input(config, 2, &device) {
            EncoderInput::Waveforms { waveforms, .. } => {
                let short = waveforms.clone().narrow(0, 0, 1).narrow(1, 0, 55);
                let zeros = Tensor::zeros([1, 48], &device);
                let padded = Tensor::cat(vec![short.clone(), zeros], 1);
                let waveforms = Tensor::cat(vec![padded, waveforms.narrow(0, 1, 1)], 0);
                let lengths = Some(vec![55, 103]);
                (
                    EncoderInput::Waveforms {
                        waveforms: short,
                        lengths: None,
                    },
                    EncoderInput::Waveforms { waveforms, lengths },
                )
            }
            EncoderInput::Tokens { tokens, .. } => {
                let short = tokens.clone().narrow(0, 0, 1).narrow(1, 0, 8);
                let pads = Tensor::ones([1, 8], &device);
                let padded = Tensor::cat(vec![short.clone(), pads], 1);
                let tokens = Tensor::cat(vec![padded, tokens.narrow(0, 1, 1)], 0);
                let lengths = Some(vec![8, 16]);
                (
                    EncoderInput::Tokens {
                        tokens: short,
                        lengths: None,
                    },
                    EncoderInput::Tokens { tokens, lengths },
                )
            }
            EncoderInput::Images(_) => unreachable!(),
        };
        let alone = of(&short);
        let padded = of(&padded).narrow(0, 0, 1).narrow(1, 0, 8);
        let difference = (alone - padded).abs().max().into_scalar::<f32>();
        assert!(difference < 1e-5, "{difference}");
    }
}

#[test]
fn dropout_and_layer_drop_act_only_on_the_student() {
    let _alone = crate::GENERATOR
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
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
            let features = plain
                .encoder
                .features(objective.config.encoder(), &inputs.input);
            features.into_data().iter::<f32>().collect::<Vec<_>>()
        };
        assert_eq!(features(), features(), "layers: {drops_layers}");
    }
}

#[test]
fn ema_copies_shared_parameters() {
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
fn teacher_with_ema_local_ignores_the_students_local_features() {
    let device = Device::flex();
    let [_, _, _, audio, _, text] = all();
    for config in [audio, text] {
        for has_own in [false, true] {
            let mut config = config.clone();
            if let ModelConfig::Data2vec2(config) = &mut config {
                config.ema_local = has_own;
                if let Some(text) = &mut config.text {
                    text.alibi = has_own;
                }
            }
            assert_eq!(config.shares_local(), !has_own);
            let objective = Data2Vec::initialised(config.clone(), 1, &device);
            let input = input(&config, 2, &device);
            let local = objective.local(&input);
            let targets = |local| objective.targets(&input, &local).into_data();
            let is_same = targets(local.clone()) == targets(local.zeros_like());
            assert_eq!(is_same, has_own);
            let own = ["encoder.local.proj.weight", "encoder.embed.tokens"];
            assert!(
                own.iter()
                    .all(|name| { Data2Vec::ema_scope(&config, name) == Scope::Average })
            );
            let loss = objective
                .forward(inputs(&objective, 2, 2, &device))
                .loss_sum;
            assert!(loss.into_scalar::<f32>().is_finite());
        }
    }
}

#[test]
fn noise_is_drawn_if_none_is_given() {
    let _alone = crate::GENERATOR
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
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
fn masks_of_unequal_rows_are_rejected_by_2_0() {
    let device = Device::flex();
    let mut masks = masks(2);
    masks[0] ^= 1;
    let of = |config| Data2Vec::new(config, &device).masks(&masks, 1, 16, &device);
    assert!(of(tiny1()).is_ok());
    assert_eq!(of(tiny2()).unwrap_err(), MaskError::UnequalRows);
}
