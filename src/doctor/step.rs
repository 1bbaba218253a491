//! The work that every device is tried with: one training step of a small encoder of speech, with
//! convolutions, norms, attention and the gradients of all of them.

use std::path::Path;
use std::time::{Duration, Instant};

use burn::tensor::{Device, Tensor, TensorData};

use crate::config::RunConfig;
use crate::device;
use crate::model::EncoderInput;
use crate::objective::{Data2Vec, Inputs};
use crate::optim::Gradients;

const RECIPE: &str = include_str!("../../configs/tiny-audio.toml");
const N_SAMPLES: usize = 2;
const N_MASKS: usize = 4;
const N_POSITIONS: usize = 16;

/// What a step gives: the loss, and the norm of the gradients.
pub(super) type Found = [f32; 2];

/// A step and its time on `device`, or why it gives none. A step before warms up.
pub(super) fn take(device: &Device) -> Result<(Found, Duration), String> {
    let config = RunConfig::parse(Path::new("configs/tiny-audio.toml"), RECIPE, &[]);
    let config = config.map_err(|error| error.to_string())?;
    let audio = config.data.audio.as_ref().expect("a recipe for audio");
    let n_frames = audio.window_frames + audio.hop_frames * (N_POSITIONS - 1);
    let embed_dim = config.model.encoder().embed_dim();
    // A device that is broken says so by a panic; the other devices still get their turn.
    device::caught(|| {
        let objective = Data2Vec::initialised(config.model.clone(), 1, device);
        step(&objective, n_frames, embed_dim, device);
        let start = Instant::now();
        let found = step(&objective, n_frames, embed_dim, device);
        (found, start.elapsed())
    })
}

/// One step on the same waveforms, masks and noise everywhere.
fn step(objective: &Data2Vec, n_frames: usize, embed_dim: usize, device: &Device) -> Found {
    let values = |n: usize, m: usize| {
        let values = (0..n * m).map(|i| (i as f32 * 12.9898).sin()).collect();
        Tensor::<2>::from_data(TensorData::new::<f32, _>(values, [n, m]), device)
    };
    // Every row hides one of two positions.
    let masks: Vec<u8> = (0..N_SAMPLES * N_MASKS * N_POSITIONS)
        .map(|place| (place % 2) as u8)
        .collect();
    let masks = objective.masks(&masks, N_MASKS, N_POSITIONS, device);
    let masks = masks.expect("rows that hide equally many positions");
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

/// Whether a step gave what flex makes of it, but for rounding.
pub(super) fn compare(found: Found, flex: Found) -> Result<(), String> {
    for (name, found, flex) in [
        ("loss", found[0], flex[0]),
        ("norm of the gradients", found[1], flex[1]),
    ] {
        // A NaN is not near either.
        let is_near = (found - flex).abs() <= 1e-3 * flex.abs();
        if !is_near {
            return Err(format!(
                "computes wrongly: the {name} is {found}, on flex {flex}"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_numbers_are_told_and_rounding_is_not() {
        assert_eq!(compare([1.0, 2.0], [1.0005, 2.001]), Ok(()));
        let wrong = compare([1.0, 2.1], [1.0, 2.0]).expect_err("five per cent");
        assert!(wrong.contains("gradients is 2.1, on flex 2"), "{wrong}");
        assert!(compare([f32::NAN, 2.0], [1.0, 2.0]).is_err());
    }
}
