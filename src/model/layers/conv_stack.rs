//! Stacks of convolutions with norms and GELU.

use burn::module::Module;
use burn::tensor::Tensor;

use super::conv::{Conv1d, Conv2d};
use super::fused;

/// Epsilon of the norms between convolutions: PyTorch's default.
const NORM_EPS: f64 = 1e-5;

/// A convolution that keeps the number of positions.
#[derive(Module, Debug)]
pub enum Conv {
    /// Over a sequence.
    Line(Conv1d),
    /// Over a square grid.
    Grid(Conv2d),
}

impl Conv {
    fn n_out(&self) -> usize {
        match self {
            Self::Line(conv) => conv.weight.dims()[0],
            Self::Grid(conv) => conv.weight.dims()[0],
        }
    }
}

/// Applies the convolutions in order, each followed by a norm over its channels and GELU, and by
/// the addition of its input where `residual` is set and the width stays.
///
/// # Shapes
///
/// - x: `[B, N, in]`; output: `[B, N, out]`
pub(crate) fn convolve(convs: &[Conv], x: Tensor<3>, residual: bool) -> Tensor<3> {
    convs.iter().fold(x, |x, conv| {
        let norm = fused::no_affine(&x, conv.n_out());
        let y = match conv {
            Conv::Line(conv) => fused::conv_norm_gelu(conv, x.clone(), norm, NORM_EPS),
            Conv::Grid(conv) => fused::grid_conv_norm_gelu(conv, x.clone(), norm, NORM_EPS),
        };
        if residual && x.dims() == y.dims() {
            y + x
        } else {
            y
        }
    })
}
