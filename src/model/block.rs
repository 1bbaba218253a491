//! One transformer block, normalised before its branches (1.0 images) or after them (all others).

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use super::config::hidden_dim;
use super::layers::{dropout, kept};
use super::{Attention, DropPath, LayerNorm, Mlp, parameter};

/// What the blocks of the encoders differ in.
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
    /// Norms stand before the branches (1.0 images) or after the residual sum (all others).
    pub norm_first: bool,
    /// Each branch ends in a learned gain per channel (LayerScale).
    pub layer_scale: bool,
    /// Queries and values have biases of their own and keys none, or all three have one.
    pub separate_qv_bias: bool,
    /// Patches per side, where each block has its own table of relative positions.
    pub rel_pos_grid: Option<usize>,
    /// Probability to drop a value that a branch adds, in training.
    pub drop_prob: f64,
    /// Probability to drop an attention weight in training.
    pub attention_drop_prob: f64,
    /// Probability to drop a branch for a sample in training.
    pub drop_path_prob: f64,
}

impl BlockConfig {
    /// The block of every encoder but 1.0's ViT, without dropout.
    pub(super) fn post_norm(dim: usize, n_heads: usize, mlp_ratio: f64, norm_eps: f64) -> Self {
        Self {
            dim,
            n_heads,
            hidden_dim: hidden_dim(dim, mlp_ratio),
            norm_eps,
            norm_first: false,
            layer_scale: false,
            separate_qv_bias: false,
            rel_pos_grid: None,
            drop_prob: 0.0,
            attention_drop_prob: 0.0,
            drop_path_prob: 0.0,
        }
    }

    /// `n` such blocks.
    pub(super) fn blocks(&self, n: usize, device: &Device) -> Vec<Block> {
        (0..n).map(|_| Block::new(self, device)).collect()
    }
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
    drop_prob: f64,
    drop_path: DropPath,
    norm_first: bool,
}

/// What a block computes.
#[derive(Debug, Clone)]
pub struct BlockOutput {
    /// The block's output, `[B, S, D]`: targets of 1.0 images.
    pub hidden: Tensor<3>,
    /// What the MLP branch adds, before dropout, `[B, S, D]`: targets of all others.
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
            mlp: Mlp::new(config.dim, config.hidden_dim, config.dim, device),
            gamma_1: gamma(),
            gamma_2: gamma(),
            drop_prob: config.drop_prob,
            drop_path: DropPath::new(config.drop_path_prob),
            norm_first: config.norm_first,
        }
    }

    /// # Shapes
    ///
    /// - x: `[B, S, D]`; bias of the attention: `[B or 1, H or 1, S, S]`
    pub fn forward(&self, x: Tensor<3>, bias: Option<Tensor<4>>) -> BlockOutput {
        if self.norm_first {
            let attended = self.attn.forward(self.norm1.forward(x.clone()), bias);
            let x = x + self.dropped(scale(attended, self.gamma_1.as_ref()));
            let ffn = scale(
                self.mlp.forward(self.norm2.forward(x.clone())),
                self.gamma_2.as_ref(),
            );
            BlockOutput {
                hidden: x + self.dropped(ffn.clone()),
                ffn,
            }
        } else {
            let attended = self.attn.forward(x.clone(), bias);
            let x = x + self.dropped(scale(attended, self.gamma_1.as_ref()));
            let x = self.norm1.forward(x);
            let ffn = scale(self.mlp.forward(x.clone()), self.gamma_2.as_ref());
            BlockOutput {
                hidden: self.norm2.forward(x + self.dropped(ffn.clone())),
                ffn,
            }
        }
    }

    /// What a branch adds, in training.
    fn dropped(&self, branch: Tensor<3>) -> Tensor<3> {
        self.drop_path.forward(dropout(branch, self.drop_prob))
    }
}

/// What goes into blocks.
#[derive(Debug, Clone)]
pub struct Sequence {
    /// Tokens, `[B, S, D]`.
    pub x: Tensor<3>,
    /// Added to the attention's logits, `[B or 1, H or 1, S, S]`.
    pub bias: Option<Tensor<4>>,
}

/// The blocks one after another; `each` sees every block's index and output.
///
/// In training a block is left out for the whole batch with probability `layer_drop_prob`. It is
/// computed all the same, so that the host need not wait for the device's generator.
pub(super) fn run(
    blocks: &[Block],
    sequence: Sequence,
    layer_drop_prob: f64,
    each: &mut dyn FnMut(usize, &BlockOutput),
) -> Tensor<3> {
    let Sequence { x, bias } = sequence;
    blocks.iter().enumerate().fold(x, |x, (block_idx, block)| {
        let output = block.forward(x.clone(), bias.clone());
        each(block_idx, &output);
        if layer_drop_prob == 0.0 || !x.is_autodiff() {
            return output.hidden;
        }
        // `kept` scales up what it keeps; layers are not scaled.
        let keep = kept([1, 1, 1], layer_drop_prob, &x.device()).mul_scalar(1.0 - layer_drop_prob);
        x.clone() + (output.hidden - x) * keep
    })
}

fn scale(x: Tensor<3>, gamma: Option<&Param<Tensor<1>>>) -> Tensor<3> {
    match gamma {
        Some(gamma) => x * gamma.val().unsqueeze(),
        None => x,
    }
}
