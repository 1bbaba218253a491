//! The encoder of data2vec 2.0 for images.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use super::config::hidden_dim;
use super::{
    Block, BlockConfig, BlockOutput, LayerNorm, PatchEmbed, Vit2Config, block, parameter,
    sin_cos_positions,
};

/// A ViT with fixed positions and norms after the residual sums, which takes any subset of patches.
#[derive(Module, Debug)]
pub struct Vit2 {
    patch_embed: PatchEmbed,
    /// `[1, 1, D]`; it has no position.
    cls_token: Param<Tensor<3>>,
    /// `[N, D]`, not trained.
    positions: Tensor<2>,
    context: ContextEncoder,
    /// The blocks that give targets.
    blocks: Vec<Block>,
}

/// What tokens pass before the blocks that give targets.
#[derive(Module, Debug)]
struct ContextEncoder {
    norm: LayerNorm,
    blocks: Vec<Block>,
}

impl Vit2 {
    /// The encoder.
    pub fn new(config: &Vit2Config, device: &Device) -> Self {
        let dim = config.embed_dim;
        let block = BlockConfig {
            dim,
            n_heads: config.n_heads,
            hidden_dim: hidden_dim(dim, config.mlp_ratio),
            norm_eps: config.norm_eps,
            norm_first: false,
            layer_scale: false,
            separate_qv_bias: false,
            rel_pos_grid: None,
            attention_drop_prob: 0.0,
            drop_path_prob: 0.0,
        };
        let blocks = |n: usize| (0..n).map(|_| Block::new(&block, device)).collect();
        Self {
            patch_embed: PatchEmbed::new(config.patch_size, dim, device),
            cls_token: parameter([1, 1, dim], device),
            positions: sin_cos_positions(config.grid(), dim, &device.clone().without_autodiff()),
            context: ContextEncoder {
                norm: LayerNorm::new(dim, config.norm_eps, device),
                blocks: blocks(config.prenet_depth),
            },
            blocks: blocks(config.depth),
        }
    }

    /// Patches without position, `[B, N, D]`.
    ///
    /// # Shapes
    ///
    /// - images: `[B, 3, side, side]`
    pub fn local(&self, images: Tensor<4>) -> Tensor<3> {
        self.patch_embed.forward(images)
    }

    /// Patches with their positions.
    ///
    /// # Shapes
    ///
    /// - patches and output: `[B, N, D]`
    pub fn positioned(&self, patches: Tensor<3>) -> Tensor<3> {
        patches + self.positions.clone().unsqueeze()
    }

    /// Class token, context encoder and blocks; `each` sees every target-giving block's index and
    /// output.
    ///
    /// # Shapes
    ///
    /// - patches, all of a picture or those kept: `[R, n, D]`; output: `[R, 1 + n, D]`
    pub fn encode(
        &self,
        patches: Tensor<3>,
        each: &mut dyn FnMut(usize, &BlockOutput),
    ) -> Tensor<3> {
        let [r, _, dim] = patches.dims();
        let x = Tensor::cat(vec![self.cls_token.val().expand([r, 1, dim]), patches], 1);
        let x = self.context.norm.forward(x);
        let x = block::run(&self.context.blocks, x, None, &mut |_, _| ());
        block::run(&self.blocks, x, None, each)
    }

    /// The fixed positions, `[N, D]`.
    pub fn positions(&self) -> Tensor<2> {
        self.positions.clone()
    }

    /// Blocks that give targets.
    pub fn depth(&self) -> usize {
        self.blocks.len()
    }
}
