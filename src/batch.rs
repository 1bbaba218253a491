//! A batch of the pipeline becomes tensors.

use burn::tensor::{Device, Tensor, TensorData};
use understudy_pipelines::DataConfig;
use understudy_pipelines::batch::Media;

/// Pictures of a batch, `[B, size, size, 3]` u8 on the host, as `[B, 3, size, size]` float32 on
/// `device`, normalised there: (x / 255 − mean) / std per channel.
///
/// # Panics
///
/// If they are no pictures, or `data` is a recipe for something else: configs are checked before.
pub fn images(media: Media, n_samples: usize, data: &DataConfig, device: &Device) -> Tensor<4> {
    let (Media::Images { size, pixels }, Some(config)) = (media, &data.image) else {
        panic!("a batch of pictures and its recipe");
    };
    let data = TensorData::new(pixels, [n_samples, size, size, 3]);
    // u8 crosses to the device; the four-fold float32 is made there.
    let images = Tensor::<4, burn::tensor::Int>::from_data(data, (device, burn::tensor::DType::U8));
    let images = images.float().permute([0, 3, 1, 2]);
    let scale = config.std.map(|std| 1.0 / (255.0 * std));
    let shift = [0, 1, 2].map(|c| -config.mean[c] / config.std[c]);
    let per_channel =
        |values: [f32; 3]| Tensor::<1>::from_floats(values, device).reshape([1, 3, 1, 1]);
    images * per_channel(scale) + per_channel(shift)
}
