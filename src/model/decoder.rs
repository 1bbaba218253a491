//! data2vec 2.0's decoder of images.

use burn::module::Module;
use burn::tensor::{Device, Tensor, activation};

use super::{Conv2d, DecoderConfig, Linear, layer_norm};

/// The decoder's norms are PyTorch's default.
const NORM_EPS: f64 = 1e-5;

/// Convolutions over the grid, then a linear map back to the encoder's width.
#[derive(Module, Debug)]
pub struct Decoder {
    blocks: Vec<Conv2d>,
    proj: Linear,
}

impl Decoder {
    /// For an encoder of width `embed_dim`.
    pub fn new(config: &DecoderConfig, embed_dim: usize, device: &Device) -> Self {
        let blocks = (0..config.n_layers).map(|layer_idx| {
            let n_in = if layer_idx == 0 {
                embed_dim
            } else {
                config.dim
            };
            Conv2d::new(n_in, config.dim, config.kernel, config.groups, device)
        });
        Self {
            blocks: blocks.collect(),
            proj: Linear::new(config.dim, embed_dim, device),
        }
    }

    /// # Shapes
    ///
    /// - x: `[R, N, D]`, N a square; output: `[R, N, width of the decoder]`, before [`Self::project`]
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [r, n, dim] = x.dims();
        let grid = n.isqrt();
        let x = self
            .blocks
            .iter()
            .fold(x.reshape([r, grid, grid, dim]), |x, conv| {
                let y = activation::gelu(layer_norm(conv.forward(x.clone()), NORM_EPS));
                // The first layer may change the width: then it has no residual.
                if x.dims() == y.dims() { y + x } else { y }
            });
        let [_, _, _, dim] = x.dims();
        x.reshape([r, n, dim])
    }

    /// The decoder's tokens in the encoder's width.
    ///
    /// # Shapes
    ///
    /// - input: `[rows, width of the decoder]`; output: `[rows, D]`
    pub fn project(&self, rows: Tensor<2>) -> Tensor<2> {
        self.proj.forward_rows(rows)
    }
}
