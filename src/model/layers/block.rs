//! Transformer blocks, with norms before the branches (1.0 images) or after them (all others).

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use super::attention::Attention;
use super::block_config::BlockConfig;
use super::dropout::{DropPath, dropout, kept};
use super::linear::Mlp;
use super::norm::LayerNorm;
use super::parameter::parameter;

impl BlockConfig {
    /// Builds `n` equal blocks, without values.
    pub(crate) fn blocks(&self, n: usize, device: &Device) -> Vec<Block> {
        (0..n).map(|_| Block::new(self, device)).collect()
    }
}

/// A transformer block: attention and an MLP, each a residual branch with a norm.
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

/// The outputs of a block.
#[derive(Debug, Clone)]
pub struct BlockOutput {
    /// The output of the block, `[B, S, D]`: target of 1.0 images.
    pub hidden: Tensor<3>,
    /// The output of the MLP branch before dropout, `[B, S, D]`: target of all others.
    pub ffn: Tensor<3>,
}

impl Block {
    /// A block, without values.
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

    /// Applies dropout and `DropPath` to a branch, in training.
    fn dropped(&self, branch: Tensor<3>) -> Tensor<3> {
        self.drop_path.forward(dropout(branch, self.drop_prob))
    }
}

/// The input of blocks.
#[derive(Debug, Clone)]
pub struct Sequence {
    /// Tokens, `[B, S, D]`.
    pub x: Tensor<3>,
    /// Added to the attention's logits, `[B or 1, H or 1, S, S]`.
    pub bias: Option<Tensor<4>>,
}

/// Runs the blocks in order and calls `each` with the index and outputs of every block. Returns the
/// output of the last one, `[B, S, D]`.
///
/// In training a block is skipped for the entire batch with probability `layer_drop_prob`. It is
/// still computed, so that the host need not wait for the device's generator.
pub(crate) fn run(
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
