//! The audio encoder of both methods.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use super::config::AudioConfig;
use super::context::Context;
use crate::model::input::{View, padding_bias};
use crate::model::layers::alibi::alibi;
use crate::model::layers::block::{self, Block, BlockOutput, Sequence};
use crate::model::layers::block_config::BlockConfig;
use crate::model::layers::conv::Conv1d;
use crate::model::layers::conv_stack::{Conv, convolve};
use crate::model::layers::fused;
use crate::model::layers::linear::Linear;
use crate::model::layers::norm::LayerNorm;
use crate::model::layers::parameter::parameter;

/// Epsilon of the norms between the convolutions over the waveform: PyTorch's default.
const CONV_NORM_EPS: f64 = 1e-5;

/// Convolutions over the waveform, convolutional positions, and blocks with norms after the residual
/// sums.
#[derive(Module, Debug)]
pub struct AudioEncoder {
    /// None for most teachers, which take their student's local features.
    local: Option<FeatureExtractor>,
    /// Replaces masked positions, `[D]` (student of 1.0).
    mask_emb: Option<Param<Tensor<1>>>,
    pos_conv: Vec<Conv>,
    /// `ALiBi`'s learned factors of the slopes, `[H]` (2.0).
    alibi_scale: Option<Param<Tensor<1>>>,
    context: Context,
    /// The blocks that give targets.
    blocks: Vec<Block>,
    clear_padding: bool,
    layer_drop_prob: f64,
}

/// The map from a waveform to positions: convolutions, norm and projection.
#[derive(Module, Debug)]
pub struct FeatureExtractor {
    layers: Vec<ExtractorLayer>,
    /// Over the channels of the last convolution.
    norm: LayerNorm,
    proj: Linear,
}

#[derive(Module, Debug)]
struct ExtractorLayer {
    conv: Conv1d,
    norm: LayerNorm,
}

impl FeatureExtractor {
    fn new(config: &AudioConfig, device: &Device) -> Self {
        let dim = config.conv_dim;
        let layers = config
            .conv_layers
            .iter()
            .enumerate()
            .map(|(layer_idx, &[kernel, stride])| {
                let n_in = if layer_idx == 0 { 1 } else { dim };
                ExtractorLayer {
                    conv: Conv1d::strided(n_in, dim, kernel, stride, device),
                    norm: LayerNorm::new(dim, CONV_NORM_EPS, device),
                }
            });
        Self {
            layers: layers.collect(),
            norm: LayerNorm::new(dim, config.norm_eps, device),
            proj: Linear::new(dim, config.embed_dim, device),
        }
    }

    /// Returns the output of the convolutions, before the last norm.
    ///
    /// # Shapes
    ///
    /// - waveforms: `[B, T]`; output: `[B, N, channels]`
    pub fn convolved(&self, waveforms: Tensor<2>) -> Tensor<3> {
        self.layers
            .iter()
            .fold(waveforms.unsqueeze_dim(2), |x, layer| {
                let norm = (layer.norm.weight.val(), layer.norm.bias.val());
                fused::conv_norm_gelu(&layer.conv, x, norm, CONV_NORM_EPS)
            })
    }

    /// Applies the last norm.
    ///
    /// # Shapes
    ///
    /// - convolved and output: `[B, N, channels]`
    pub fn normed(&self, convolved: Tensor<3>) -> Tensor<3> {
        self.norm.forward(convolved)
    }

    /// # Shapes
    ///
    /// - waveforms: `[B, T]`; output: `[B, N, D]`
    pub fn forward(&self, waveforms: Tensor<2>) -> Tensor<3> {
        self.proj.forward(self.normed(self.convolved(waveforms)))
    }
}

impl AudioEncoder {
    /// A student's encoder, without values; `has_mask` if masked positions get a learned value (1.0).
    pub fn new(config: &AudioConfig, has_mask: bool, device: &Device) -> Self {
        let dim = config.embed_dim;
        let block = BlockConfig {
            drop_prob: config.drop_prob,
            attention_drop_prob: config.attention_drop_prob,
            ..BlockConfig::post_norm(dim, config.n_heads, config.mlp_ratio, config.norm_eps)
        };
        let (kernel, groups) = (config.pos_conv_kernel, config.pos_conv_groups);
        let positions = (0..config.pos_conv_depth)
            .map(|_| Conv::Line(Conv1d::same(dim, dim, kernel, groups, device)));
        Self {
            local: Some(FeatureExtractor::new(config, device)),
            mask_emb: has_mask.then(|| parameter([dim], device)),
            pos_conv: positions.collect(),
            alibi_scale: config.alibi.then(|| parameter([config.n_heads], device)),
            context: Context::new(&block, config.prenet_depth, config.layer_drop_prob, device),
            blocks: block.blocks(config.depth, device),
            clear_padding: config.clear_padding,
            layer_drop_prob: config.layer_drop_prob,
        }
    }

    /// Removes the mask embedding and, with `shares_local`, the feature extractor: a teacher's encoder.
    #[must_use]
    pub fn into_teacher(self, shares_local: bool) -> Self {
        Self {
            local: self.local.filter(|_| !shares_local),
            mask_emb: None,
            ..self
        }
    }

    /// The feature extractor; none for a teacher that takes its student's local features.
    pub fn local(&self) -> Option<&FeatureExtractor> {
        self.local.as_ref()
    }

    /// Applies masks, positions and the context encoder. Returns the input of the blocks that give
    /// targets.
    ///
    /// # Shapes
    ///
    /// - local: `[B, N, D]`; padding: `[B, N]`, 1 = padding; output: `[B, N, D]`, for kept positions
    ///   only `[R, n_kept, D]`
    ///
    /// # Panics
    ///
    /// If masked positions need a learned value and the model has none.
    pub fn sequence(
        &self,
        local: Tensor<3>,
        view: View<'_>,
        padding: Option<&Tensor<2>>,
    ) -> Sequence {
        let [b, n, dim] = local.dims();
        let without = |x: Tensor<3>, positions: &Tensor<2>| {
            let keep: Tensor<3> = 1.0 - positions.clone().unsqueeze_dim(2);
            x * keep
        };
        // The positional convolutions would carry values at padding to their neighbours.
        let cleared = |x: Tensor<3>| match padding.filter(|_| self.clear_padding) {
            Some(padding) => without(x, padding),
            None => x,
        };
        let (x, kept_positions) = match view {
            View::All => (self.positioned(cleared(local)), None),
            View::Masked(masks) => {
                let value = self
                    .mask_emb
                    .as_ref()
                    .expect("a masked input needs a mask embedding");
                let value = value.val().reshape([1, 1, dim]);
                let masked = value * masks.mask.clone().unsqueeze_dim::<3>(2);
                let x = without(local, &masks.mask) + masked;
                (self.positioned(cleared(x)), None)
            }
            View::Kept(masks) => {
                let local = cleared(local);
                let rows = local.clone().select(0, masks.sample_of_row.clone());
                let positions = self.positions(without(rows, &masks.mask));
                let positions = positions
                    .reshape([masks.n_rows() * n, dim])
                    .select(0, masks.ids_keep_rows.clone())
                    .reshape([masks.n_rows(), masks.n_kept(), dim]);
                let kept_positions = masks
                    .kept_positions
                    .clone()
                    .reshape([masks.n_rows(), masks.n_kept()]);
                let kept = masks.keep(local.reshape([b * n, dim]));
                (kept + positions, Some(kept_positions))
            }
        };
        let padding = padding.map(|padding| {
            padding_bias(match view {
                View::Kept(masks) => masks
                    .keep(padding.clone().reshape([b * n, 1]))
                    .squeeze_dim(2),
                View::All | View::Masked(_) => padding.clone(),
            })
        });
        let scale = self.alibi_scale.as_ref().map(Param::val);
        let bias = match (scale.map(|scale| alibi(scale, n, kept_positions)), padding) {
            (Some(alibi), Some(padding)) => Some(alibi + padding),
            (alibi, padding) => alibi.or(padding),
        };
        self.context.forward(Sequence { x, bias })
    }

    /// Runs the blocks that give targets and calls `each` with the index and outputs of every one.
    pub fn run(&self, sequence: Sequence, each: &mut dyn FnMut(usize, &BlockOutput)) -> Tensor<3> {
        block::run(&self.blocks, sequence, self.layer_drop_prob, each)
    }

    /// The blocks that give targets.
    pub(super) fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    fn positioned(&self, x: Tensor<3>) -> Tensor<3> {
        x.clone() + self.positions(x)
    }

    fn positions(&self, x: Tensor<3>) -> Tensor<3> {
        convolve(&self.pos_conv, x, false)
    }
}
