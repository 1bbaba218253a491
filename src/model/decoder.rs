//! data2vec 2.0's decoder.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::conv::convolve;
use super::layers::dropout;
use super::{Conv, Conv1d, Conv2d, DecoderConfig, Head};

/// Convolutions over all positions, then a map back to the encoder's width.
#[derive(Module, Debug)]
pub struct Decoder {
    blocks: Vec<Conv>,
    proj: Head,
    residual: bool,
    input_drop_prob: f64,
}

impl Decoder {
    /// For an encoder of width `embed_dim`, over a square grid of patches or a sequence.
    pub fn new(config: &DecoderConfig, embed_dim: usize, is_grid: bool, device: &Device) -> Self {
        let DecoderConfig {
            dim,
            kernel,
            groups,
            ..
        } = *config;
        let blocks = (0..config.n_layers).map(|layer_idx| {
            let n_in = if layer_idx == 0 { embed_dim } else { dim };
            if is_grid {
                Conv::Grid(Conv2d::new(n_in, dim, kernel, groups, device))
            } else {
                Conv::Line(Conv1d::same(n_in, dim, kernel, groups, device))
            }
        });
        Self {
            blocks: blocks.collect(),
            proj: Head::new(dim, config.proj_hidden_dim, embed_dim, device),
            residual: config.residual,
            input_drop_prob: config.input_drop_prob,
        }
    }

    /// What the decoder is given of the encoder's tokens, in training with dropout.
    ///
    /// # Shapes
    ///
    /// - kept: `[rows, D]`
    pub fn input(&self, kept: Tensor<2>) -> Tensor<2> {
        dropout(kept, self.input_drop_prob)
    }

    /// # Shapes
    ///
    /// - x: `[R, N, D]`; output: `[R, N, width of the decoder]`, before [`Self::project`]
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        convolve(&self.blocks, x, self.residual)
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
