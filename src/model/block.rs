//! One transformer block, normalised before (1.0) or after (2.0) its branches.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use super::{Attention, DropPath, LayerNorm, Mlp, parameter};

/// What the blocks of the two methods differ in.
#[derive(Debug, Clone, Copy)]
pub struct BlockConfig {
    /// Width, D.
    pub dim: usize,
    /// Attention heads; divides `dim`.
    pub n_heads: usize,
    /// Width between the two layers of the MLP.
    pub hidden_dim: usize,
    /// Added to the variance by the norms.
    pub norm_eps: f64,
    /// Norms stand before the branches (1.0) or after the residual sum (2.0).
    pub norm_first: bool,
    /// Each branch ends in a learned gain per channel (LayerScale).
    pub layer_scale: bool,
    /// Queries and values have biases of their own and keys none, or all three have one.
    pub separate_qv_bias: bool,
    /// Patches per side, where each block has its own table of relative positions.
    pub rel_pos_grid: Option<usize>,
    /// Probability to drop an attention weight in training.
    pub attention_drop_prob: f64,
    /// Probability to drop a branch for a sample in training.
    pub drop_path_prob: f64,
}

/// A transformer block.
#[derive(Module, Debug)]
pub struct Block {
    norm1: LayerNorm,
    attn: Attention,
    norm2: LayerNorm,
    mlp: Mlp,
    gamma_1: Option<Param<Tensor<1>>>,
    gamma_2: Option<Param<Tensor<1>>>,
    drop_path: DropPath,
    norm_first: bool,
}

/// What a block computes.
#[derive(Debug, Clone)]
pub struct BlockOutput {
    /// The block's output, `[B, S, D]`: targets of 1.0 images.
    pub hidden: Tensor<3>,
    /// What the MLP branch adds, `[B, S, D]`: targets of 2.0.
    pub ffn: Tensor<3>,
}

impl Block {
    /// A block.
    pub fn new(config: &BlockConfig, device: &Device) -> Self {
        let gamma = || config.layer_scale.then(|| parameter([config.dim], device));
        Self {
            norm1: LayerNorm::new(config.dim, config.norm_eps, device),
            attn: Attention::new(config, device),
            norm2: LayerNorm::new(config.dim, config.norm_eps, device),
            mlp: Mlp::new(config.dim, config.hidden_dim, device),
            gamma_1: gamma(),
            gamma_2: gamma(),
            drop_path: DropPath::new(config.drop_path_prob),
            norm_first: config.norm_first,
        }
    }

    /// # Shapes
    ///
    /// - x: `[B, S, D]`; bias of the attention: `[1, H, S, S]`
    pub fn forward(&self, x: Tensor<3>, bias: Option<Tensor<4>>) -> BlockOutput {
        if self.norm_first {
            let attended = self.attn.forward(self.norm1.forward(x.clone()), bias);
            let x = x + self
                .drop_path
                .forward(scale(attended, self.gamma_1.as_ref()));
            let ffn = scale(
                self.mlp.forward(self.norm2.forward(x.clone())),
                self.gamma_2.as_ref(),
            );
            BlockOutput {
                hidden: x + self.drop_path.forward(ffn.clone()),
                ffn,
            }
        } else {
            let attended = self.attn.forward(x.clone(), bias);
            let x = x + self
                .drop_path
                .forward(scale(attended, self.gamma_1.as_ref()));
            let x = self.norm1.forward(x);
            let ffn = scale(self.mlp.forward(x.clone()), self.gamma_2.as_ref());
            BlockOutput {
                hidden: self.norm2.forward(x + self.drop_path.forward(ffn.clone())),
                ffn,
            }
        }
    }
}

/// The blocks one after another; `each` sees every block's index and output.
pub(super) fn run(
    blocks: &[Block],
    x: Tensor<3>,
    bias: Option<&Tensor<4>>,
    each: &mut dyn FnMut(usize, &BlockOutput),
) -> Tensor<3> {
    blocks.iter().enumerate().fold(x, |x, (block_idx, block)| {
        let output = block.forward(x, bias.cloned());
        each(block_idx, &output);
        output.hidden
    })
}

fn scale(x: Tensor<3>, gamma: Option<&Param<Tensor<1>>>) -> Tensor<3> {
    match gamma {
        Some(gamma) => x * gamma.val().unsqueeze(),
        None => x,
    }
}
