//! Copies a batch of the pipeline to the device.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use understudy_pipelines::DataConfig;
use understudy_pipelines::batch::Media as HostMedia;
use understudy_pipelines::config::ImageConfig;

use super::input::EncoderInput;

/// Copies a batch to `device` and normalises images there.
///
/// For text of 1.0, also returns the tokens that the student sees, `[B, L]`.
///
/// # Panics
///
/// If `data` is the config of another modality: configs are checked before.
pub fn to_device(
    media: HostMedia,
    n_samples: usize,
    data: &DataConfig,
    device: &Device,
) -> (EncoderInput, Option<Tensor<2, Int>>) {
    match media {
        HostMedia::Images { size, pixels } => {
            let config = data.image.as_ref().expect("a config for images");
            (
                EncoderInput::Images(images(pixels, n_samples, size, config, device)),
                None,
            )
        }
        HostMedia::Audio {
            n_frames,
            waveforms,
            lengths,
        } => {
            let waveforms =
                Tensor::from_data(TensorData::new(waveforms, [n_samples, n_frames]), device);
            let lengths = unless_full(lengths, n_frames);
            (EncoderInput::Waveforms { waveforms, lengths }, None)
        }
        HostMedia::Text {
            n_tokens,
            tokens,
            student_tokens,
            lengths,
        } => {
            let ids = |ids: Vec<u32>| {
                let ids: Vec<i64> = ids.into_iter().map(i64::from).collect();
                Tensor::from_data(TensorData::new(ids, [n_samples, n_tokens]), device)
            };
            let student = (!student_tokens.is_empty()).then(|| ids(student_tokens));
            let lengths = unless_full(lengths, n_tokens);
            let tokens = ids(tokens);
            (EncoderInput::Tokens { tokens, lengths }, student)
        }
    }
}

/// Copies images, `[B, size, size, 3]` u8 on the host, to `[B, 3, size, size]` float32 on `device`,
/// normalised there: (x / 255 − mean) / std per channel.
fn images(
    pixels: Vec<u8>,
    n_samples: usize,
    size: usize,
    config: &ImageConfig,
    device: &Device,
) -> Tensor<4> {
    let data = TensorData::new(pixels, [n_samples, size, size, 3]);
    // u8 crosses to the device; the four-fold float32 is made there.
    let images = Tensor::<4, Int>::from_data(data, (device, DType::U8));
    let images = images.float().permute([0, 3, 1, 2]);
    let scale = config.std.map(|std| 1.0 / (255.0 * std));
    let shift = [0, 1, 2].map(|c| -config.mean[c] / config.std[c]);
    let per_channel =
        |values: [f32; 3]| Tensor::<1>::from_floats(values, device).reshape([1, 3, 1, 1]);
    images * per_channel(scale) + per_channel(shift)
}

/// Returns the lengths, or none if all samples fill the batch: then nothing is padding.
fn unless_full(lengths: Vec<u32>, len: usize) -> Option<Vec<usize>> {
    let lengths: Vec<usize> = lengths.into_iter().map(|len| len as usize).collect();
    lengths.iter().any(|&own| own != len).then_some(lengths)
}
