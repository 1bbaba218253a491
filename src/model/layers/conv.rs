//! Convolutions over a sequence or a grid, channels last.

use burn::module::{Module, Param};
use burn::tensor::module::{conv1d, conv2d};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Tensor};

use super::parameter::parameter;

/// A convolution over a sequence.
#[derive(Module, Debug)]
pub struct Conv1d {
    /// `[out, in / groups, kernel]`, PyTorch's layout.
    pub weight: Param<Tensor<3>>,
    /// `[out]`.
    pub bias: Option<Param<Tensor<1>>>,
    stride: usize,
    padding: usize,
    groups: usize,
}

impl Conv1d {
    /// A convolution with bias and stride 1 whose output is as long as the input. `kernel` is odd,
    /// `groups` divides both channel counts.
    pub fn same(n_in: usize, n_out: usize, kernel: usize, groups: usize, device: &Device) -> Self {
        Self {
            weight: parameter([n_out, n_in / groups, kernel], device),
            bias: Some(parameter([n_out], device)),
            stride: 1,
            padding: kernel / 2,
            groups,
        }
    }

    /// A convolution without bias and padding.
    pub fn strided(
        n_in: usize,
        n_out: usize,
        kernel: usize,
        stride: usize,
        device: &Device,
    ) -> Self {
        Self {
            weight: parameter([n_out, n_in, kernel], device),
            bias: None,
            stride,
            padding: 0,
            groups: 1,
        }
    }

    /// # Shapes
    ///
    /// - input: `[B, T, in]`; output: `[B, T', out]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let options = ConvOptions::new([self.stride], [self.padding], [1], self.groups);
        let bias = self.bias.as_ref().map(Param::val);
        conv1d(x.swap_dims(1, 2), self.weight.val(), bias, options).swap_dims(1, 2)
    }

    /// Stride, padding and groups.
    #[cfg(feature = "libtorch")]
    pub(crate) fn geometry(&self) -> (usize, usize, usize) {
        (self.stride, self.padding, self.groups)
    }
}

/// A convolution over a grid, with stride 1 and an output as large as the input.
#[derive(Module, Debug)]
pub struct Conv2d {
    /// `[out, in / groups, kernel, kernel]`, PyTorch's layout.
    pub weight: Param<Tensor<4>>,
    /// `[out]`.
    pub bias: Param<Tensor<1>>,
    groups: usize,
}

impl Conv2d {
    /// A convolution without values. `kernel` is odd, `groups` divides both channel counts.
    pub fn new(n_in: usize, n_out: usize, kernel: usize, groups: usize, device: &Device) -> Self {
        Self {
            weight: parameter([n_out, n_in / groups, kernel, kernel], device),
            bias: parameter([n_out], device),
            groups,
        }
    }

    /// # Shapes
    ///
    /// - input: `[B, N, in]`, N the patches of a square grid in row-major order; output:
    ///   `[B, N, out]`
    ///
    /// Channels are last: the permuted views are libtorch's `channels_last`, nothing is copied.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [n_out, _, _, _] = self.weight.dims();
        let [b, n, n_in] = x.dims();
        let grid = n.isqrt();
        let (stride, padding, groups) = self.geometry();
        let options = ConvOptions::new([stride; 2], [padding; 2], [1, 1], groups);
        let x = x.reshape([b, grid, grid, n_in]).permute([0, 3, 1, 2]);
        let y = conv2d(x, self.weight.val(), Some(self.bias.val()), options);
        y.permute([0, 2, 3, 1]).reshape([b, n, n_out])
    }

    /// Stride, padding and groups.
    pub(crate) fn geometry(&self) -> (usize, usize, usize) {
        let [_, _, kernel, _] = self.weight.dims();
        (1, kernel / 2, self.groups)
    }
}
