//! The test of a device: one training step of a small audio encoder, with convolutions, norms,
//! attention and the gradients of all of them.

use std::path::Path;
use std::time::{Duration, Instant};

use burn::tensor::{Device, Tensor, TensorData};

use crate::config::{Overrides, RunConfig};
use crate::device;
use crate::model::EncoderInput;
use crate::objective::{Data2Vec, Inputs};
use crate::optim::Gradients;

const CONFIG: &str = include_str!("../../configs/tiny-audio.toml");
const N_SAMPLES: usize = 2;
const N_MASKS: usize = 4;
const N_POSITIONS: usize = 16;

/// The results of a step: the loss and the norm of the gradients.
pub(super) type StepValues = [f32; 2];

/// Computes a step on `device` after a warm-up step. Returns its results and time, or the reason for
/// a failure.
pub(super) fn run(device: &Device) -> Result<(StepValues, Duration), String> {
    let config = RunConfig::parse(
        Path::new("configs/tiny-audio.toml"),
        CONFIG,
        &Overrides::default(),
    );
    let config = config.map_err(|error| error.to_string())?;
    let audio = config.data.audio.as_ref().expect("a config for audio");
    let n_frames = audio.window_frames + audio.hop_frames * (N_POSITIONS - 1);
    let embed_dim = config.model.encoder().embed_dim();
    // A broken device panics; the other devices are still tested.
    device::catch_panic(|| {
        let objective = Data2Vec::initialised(config.model.clone(), 1, device);
        step(&objective, n_frames, embed_dim, device);
        let start = Instant::now();
        let found = step(&objective, n_frames, embed_dim, device);
        (found, start.elapsed())
    })
}

/// Computes one step, with the same waveforms, masks and noise on every device.
fn step(objective: &Data2Vec, n_frames: usize, embed_dim: usize, device: &Device) -> StepValues {
    let values = |n: usize, m: usize| {
        let values = (0..n * m).map(|i| (i as f32 * 12.9898).sin()).collect();
        Tensor::<2>::from_data(TensorData::new::<f32, _>(values, [n, m]), device)
    };
    // Every row masks one of two positions.
    let masks: Vec<u8> = (0..N_SAMPLES * N_MASKS * N_POSITIONS)
        .map(|position| (position % 2) as u8)
        .collect();
    let masks = objective.masks(&masks, N_MASKS, N_POSITIONS, device);
    let masks = masks.expect("rows with equally many masked positions");
    let output = objective.forward(Inputs {
        input: EncoderInput::Waveforms {
            waveforms: values(N_SAMPLES, n_frames),
            lengths: None,
        },
        student_tokens: None,
        noise: Some(values(masks.n_masked, embed_dim)),
        masks,
    });
    let mut gradients = Gradients::default();
    gradients.add(&objective.student, output.loss_sum.backward());
    [output.regression_sum, gradients.norm()].map(Tensor::into_scalar)
}

/// Checks that a step gave the same results as on flex, except for rounding.
pub(super) fn compare(found: StepValues, flex: StepValues) -> Result<(), String> {
    for (name, found, flex) in [
        ("loss", found[0], flex[0]),
        ("gradient norm", found[1], flex[1]),
    ] {
        // False for NaN.
        let is_near = (found - flex).abs() <= 1e-3 * flex.abs();
        if !is_near {
            return Err(format!("wrong result: {name} is {found}, on flex {flex}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compare_rejects_other_values_but_not_rounding() {
        assert_eq!(compare([1.0, 2.0], [1.0005, 2.001]), Ok(()));
        let wrong = compare([1.0, 2.1], [1.0, 2.0]).expect_err("five per cent");
        assert!(wrong.contains("gradient norm is 2.1, on flex 2"), "{wrong}");
        assert!(compare([f32::NAN, 2.0], [1.0, 2.0]).is_err());
    }
}
