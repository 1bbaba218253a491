//! The image encoder of data2vec 2.0.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use super::config::VitConfig;
use super::context::Context;
use crate::model::layers::block::{self, Block, BlockOutput, Sequence};
use crate::model::layers::block_config::BlockConfig;
use crate::model::layers::parameter::parameter;
use crate::model::layers::patch_embed::PatchEmbed;
use crate::model::layers::position::sin_cos_positions;

/// A ViT with fixed positions and norms after the residual sums. It encodes any subset of patches.
#[derive(Module, Debug)]
pub struct Vit {
    patch_embed: PatchEmbed,
    /// `[1, 1, D]`, without position.
    cls_token: Param<Tensor<3>>,
    /// `[N, D]`, not trained.
    positions: Tensor<2>,
    context: Context,
    /// The blocks that give targets.
    blocks: Vec<Block>,
}

impl Vit {
    /// The encoder, without values.
    pub fn new(config: &VitConfig, device: &Device) -> Self {
        let dim = config.embed_dim;
        let block = BlockConfig::post_norm(dim, config.n_heads, config.mlp_ratio, config.norm_eps);
        Self {
            patch_embed: PatchEmbed::new(config.patch_size, dim, device),
            cls_token: parameter([1, 1, dim], device),
            positions: sin_cos_positions(config.grid(), dim, &device.clone().without_autodiff()),
            context: Context::new(&block, config.prenet_depth, 0.0, device),
            blocks: block.blocks(config.depth, device),
        }
    }

    /// Returns the patches without position, `[B, N, D]`.
    ///
    /// # Shapes
    ///
    /// - images: `[B, 3, side, side]`
    pub fn local(&self, images: Tensor<4>) -> Tensor<3> {
        self.patch_embed.forward(images)
    }

    /// Adds the positions to all patches.
    ///
    /// # Shapes
    ///
    /// - patches and output: `[B, N, D]`
    pub fn positioned(&self, patches: Tensor<3>) -> Tensor<3> {
        patches + self.positions.clone().unsqueeze()
    }

    /// Prepends the class token and applies the context encoder. Returns the input of the blocks that
    /// give targets.
    ///
    /// # Shapes
    ///
    /// - patches, all or the kept ones: `[R, n, D]`; output: `[R, 1 + n, D]`
    pub fn sequence(&self, patches: Tensor<3>) -> Sequence {
        let [r, _, dim] = patches.dims();
        let x = Tensor::cat(vec![self.cls_token.val().expand([r, 1, dim]), patches], 1);
        self.context.forward(Sequence { x, bias: None })
    }

    /// Runs the blocks that give targets and calls `each` with the index and outputs of every one.
    /// Returns `[R, 1 + n, D]`.
    pub fn run(&self, sequence: Sequence, each: &mut dyn FnMut(usize, &BlockOutput)) -> Tensor<3> {
        block::run(&self.blocks, sequence, 0.0, each)
    }

    /// The blocks that give targets.
    pub(super) fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// The fixed positions, `[N, D]`.
    pub fn positions(&self) -> Tensor<2> {
        self.positions.clone()
    }
}
