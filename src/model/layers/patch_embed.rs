//! The patch embedding of images.

use burn::module::{Module, Param};
use burn::tensor::module::linear;
use burn::tensor::{Device, Tensor};

use super::parameter::parameter;

/// A linear map of non-overlapping square patches, stored with the shape of a convolution.
#[derive(Module, Debug)]
pub struct PatchEmbed {
    proj: PatchProjection,
}

#[derive(Module, Debug)]
struct PatchProjection {
    /// `[D, 3, patch, patch]`.
    weight: Param<Tensor<4>>,
    /// `[D]`.
    bias: Param<Tensor<1>>,
}

impl PatchEmbed {
    /// A map of `patch_size` × `patch_size` RGB pixels to `dim` channels, without values.
    pub fn new(patch_size: usize, dim: usize, device: &Device) -> Self {
        Self {
            proj: PatchProjection {
                weight: parameter([dim, 3, patch_size, patch_size], device),
                bias: parameter([dim], device),
            },
        }
    }

    /// # Shapes
    ///
    /// - images: `[B, 3, height, width]`; output: `[B, N, D]`, patches in row-major order
    pub fn forward(&self, images: Tensor<4>) -> Tensor<3> {
        let [b, channels, height, width] = images.dims();
        let weight = self.proj.weight.val();
        let [dim, _, patch, _] = weight.dims();
        let [rows, columns] = [height / patch, width / patch];
        // One matrix product over cut-out patches is faster than a strided convolution and its
        // backward pass, with the same values.
        let patches = images
            .reshape([b, channels, rows, patch, columns, patch])
            .permute([0, 2, 4, 1, 3, 5])
            .reshape([b * rows * columns, channels * patch * patch]);
        let weight = weight.reshape([dim, channels * patch * patch]);
        linear(patches, weight.transpose(), Some(self.proj.bias.val())).reshape([
            b,
            rows * columns,
            dim,
        ])
    }
}
