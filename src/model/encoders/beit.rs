//! The image encoder of data2vec 1.0: BEiT's ViT.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use super::config::{BeitConfig, RelativePosition};
use crate::model::layers::block::{self, Block, BlockOutput, Sequence};
use crate::model::layers::block_config::{BlockConfig, hidden_dim};
use crate::model::layers::norm::LayerNorm;
use crate::model::layers::parameter::parameter;
use crate::model::layers::patch_embed::PatchEmbed;
use crate::model::layers::position::RelativePositionBias;

/// A ViT with relative positions, `LayerScale` and norms before the branches.
#[derive(Module, Debug)]
pub struct Beit {
    /// `[1, 1, D]`.
    cls_token: Param<Tensor<3>>,
    /// Replaces masked patches, `[1, 1, D]`; classifiers have none.
    mask_token: Option<Param<Tensor<3>>>,
    patch_embed: PatchEmbed,
    rel_pos_bias: Option<RelativePositionBias>,
    blocks: Vec<Block>,
    /// After the last block; classifiers have none.
    norm: Option<LayerNorm>,
}

impl Beit {
    /// The encoder of pre-training, without values.
    pub fn new(config: &BeitConfig, device: &Device) -> Self {
        Self::with_parts(config, true, true, device)
    }

    /// An encoder with or without a mask token and a norm after the last block, without values.
    pub fn with_parts(
        config: &BeitConfig,
        has_mask: bool,
        has_norm: bool,
        device: &Device,
    ) -> Self {
        let dim = config.embed_dim;
        Self {
            mask_token: has_mask.then(|| parameter([1, 1, dim], device)),
            norm: has_norm.then(|| LayerNorm::new(dim, config.norm_eps, device)),
            ..Self::for_classification(config, device)
        }
    }

    /// The encoder of a classifier: no mask token, and no norm after the last block.
    pub fn for_classification(config: &BeitConfig, device: &Device) -> Self {
        let dim = config.embed_dim;
        let grid = config.grid();
        let per_layer = config.relative_position == RelativePosition::PerLayer;
        let blocks = (0..config.depth).map(|block_idx| {
            let config = BlockConfig {
                dim,
                n_heads: config.n_heads,
                hidden_dim: hidden_dim(dim, config.mlp_ratio),
                norm_eps: config.norm_eps,
                norm_first: true,
                layer_scale: true,
                separate_qv_bias: true,
                rel_pos_grid: per_layer.then_some(grid),
                drop_prob: 0.0,
                attention_drop_prob: config.attention_drop_prob,
                drop_path_prob: config.drop_path_prob * block_idx as f64
                    / (config.depth.max(2) - 1) as f64,
            };
            Block::new(&config, device)
        });
        Self {
            cls_token: parameter([1, 1, dim], device),
            mask_token: None,
            patch_embed: PatchEmbed::new(config.patch_size, dim, device),
            rel_pos_bias: (!per_layer)
                .then(|| RelativePositionBias::new(grid, config.n_heads, device)),
            blocks: blocks.collect(),
            norm: None,
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

    /// Replaces masked patches by the mask token and prepends the class token.
    ///
    /// # Shapes
    ///
    /// - patches: `[B, N, D]`; mask: `[B, N]`, 1 = masked; output: `[B, 1 + N, D]`
    ///
    /// # Panics
    ///
    /// If there is a mask and the model has no mask token.
    pub fn sequence(&self, patches: Tensor<3>, mask: Option<Tensor<2>>) -> Sequence {
        let [b, _, dim] = patches.dims();
        let patches = match mask {
            None => patches,
            Some(mask) => {
                let token = self
                    .mask_token
                    .as_ref()
                    .expect("a masked input needs a mask token");
                let mask = mask.unsqueeze_dim::<3>(2);
                patches * (1.0 - mask.clone()) + token.val() * mask
            }
        };
        Sequence {
            x: Tensor::cat(vec![self.cls_token.val().expand([b, 1, dim]), patches], 1),
            bias: self
                .rel_pos_bias
                .as_ref()
                .map(RelativePositionBias::forward),
        }
    }

    /// Runs all blocks and calls `each` with the index and outputs of every one. Returns
    /// `[B, 1 + N, D]`, before the final norm ([`Self::normed`]).
    pub fn run(&self, sequence: Sequence, each: &mut dyn FnMut(usize, &BlockOutput)) -> Tensor<3> {
        block::run(&self.blocks, sequence, 0.0, each)
    }

    /// All blocks.
    pub(super) fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// Applies the final norm, if the model has one.
    ///
    /// # Shapes
    ///
    /// - x and output: `[..., D]`
    pub fn normed<const R: usize>(&self, x: Tensor<R>) -> Tensor<R> {
        match &self.norm {
            Some(norm) => norm.forward(x),
            None => x,
        }
    }
}
