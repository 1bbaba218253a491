//! The context encoder: layers before the blocks that give targets.

use burn::module::Module;
use burn::tensor::Device;

use crate::model::layers::block::{self, Block, Sequence};
use crate::model::layers::block_config::BlockConfig;
use crate::model::layers::dropout::dropout;
use crate::model::layers::norm::LayerNorm;

/// A norm, dropout and, in 2.0, blocks (the prenet).
#[derive(Module, Debug)]
pub struct Context {
    norm: LayerNorm,
    blocks: Vec<Block>,
    drop_prob: f64,
    layer_drop_prob: f64,
}

impl Context {
    /// A context encoder of `depth` blocks, without values. The blocks' dropout follows the norm too.
    pub fn new(config: &BlockConfig, depth: usize, layer_drop_prob: f64, device: &Device) -> Self {
        Self {
            norm: LayerNorm::new(config.dim, config.norm_eps, device),
            blocks: config.blocks(depth, device),
            drop_prob: config.drop_prob,
            layer_drop_prob,
        }
    }

    /// # Shapes
    ///
    /// - tokens and output: `[B, S, D]`; the bias is used here and returned for the next blocks
    pub fn forward(&self, sequence: Sequence) -> Sequence {
        let Sequence { x, bias } = sequence;
        let x = dropout(self.norm.forward(x), self.drop_prob);
        let own = Sequence {
            x,
            bias: bias.clone(),
        };
        Sequence {
            x: block::run(&self.blocks, own, self.layer_drop_prob, &mut |_, _| ()),
            bias,
        }
    }
}
