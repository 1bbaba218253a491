//! Options of the encoders: the tables `image`, `audio` and `text` of a method.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::check::{Check, MOST_LAYERS, MOST_TOKENS, MOST_WIDTH};
use crate::model::layers::block_config::hidden_dim;

/// Upper bound of the patches per side: tables of positions have the square of their number.
const MOST_GRID: usize = 128;
/// Upper bound of [`EncoderConfig::mlp_ratio`].
const MOST_MLP_RATIO: f64 = 256.0;
/// Upper bound of the PCM frames from one position to the next.
const MOST_HOP_FRAMES: usize = 10_000_000;

/// BEiT's ViT, the encoder of data2vec 1.0: the table `[model.data2vec1.image]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BeitConfig {
    /// Side of the square image, in pixels; 224.
    pub image_size: usize,
    /// Side of a patch, in pixels; 16.
    pub patch_size: usize,
    /// Width; 768 for B, 1024 for L.
    pub embed_dim: usize,
    /// Blocks; 12 for B, 24 for L.
    pub depth: usize,
    /// Attention heads; 12 for B, 16 for L.
    pub n_heads: usize,
    /// Ratio of the MLP's width to `embed_dim`; 4.
    pub mlp_ratio: f64,
    /// Added to the variance by the norms; 1e-6.
    pub norm_eps: f64,
    /// `LayerScale`'s gains at the start; 1e-4 for B, 1e-5 for L.
    pub layer_scale: f64,
    /// Whether all blocks share one relative-position table; `shared` in pre-training.
    pub relative_position: RelativePosition,
    /// Probability to drop a branch of the last block for a sample; it grows linearly from 0 at
    /// the first. 0.25 for B, 0.2 for L.
    pub drop_path_prob: f64,
    /// Probability to drop an attention weight; 0.05 for B, 0.15 for L.
    pub attention_drop_prob: f64,
}

/// Whether all blocks share one relative-position table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RelativePosition {
    /// One table for all blocks.
    Shared,
    /// One table per block (models fine-tuned by the reference code).
    PerLayer,
}

/// The ViT of data2vec 2.0: the table `[model.data2vec2.image]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VitConfig {
    /// Side of the square image, in pixels; 224.
    pub image_size: usize,
    /// Side of a patch, in pixels; 16, 14 for H/14.
    pub patch_size: usize,
    /// Width; 768 for B, 1024 for L, 1280 for H.
    pub embed_dim: usize,
    /// Blocks before those that give targets; 2 for B, none for L and H.
    pub prenet_depth: usize,
    /// Blocks that give targets; 10 for B, 24 for L, 32 for H.
    pub depth: usize,
    /// Attention heads; 12 for B, 16 for L and H.
    pub n_heads: usize,
    /// Ratio of the MLP's width to `embed_dim`; 4.
    pub mlp_ratio: f64,
    /// Added to the variance by the norms; 1e-6.
    pub norm_eps: f64,
}

/// The audio encoder of both methods: the tables `[model.data2vec1.audio]` and
/// `[model.data2vec2.audio]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an independent difference between models"
)]
pub struct AudioConfig {
    /// Channels of the convolutions over the waveform; 512.
    pub conv_dim: usize,
    /// Kernel and stride of each of these convolutions, in order; `[[10, 5], [3, 2], [3, 2], [3, 2],
    /// [3, 2], [2, 2], [2, 2]]`, a window of 400 frames and a hop of 320 per position.
    pub conv_layers: Vec<[usize; 2]>,
    /// Whether the convolutions are initialised as a filter bank (the first as a short-time Fourier
    /// transform, the others as low-pass filters of random mixtures) instead of at random; in no
    /// published config.
    #[serde(default)]
    pub filter_bank: bool,
    /// Width; 768 for B, 1024 for L.
    pub embed_dim: usize,
    /// Positional convolutions; 5.
    pub pos_conv_depth: usize,
    /// Kernel of the positional convolutions, odd; 19.
    pub pos_conv_kernel: usize,
    /// Groups of channels of the positional convolutions; 16.
    pub pos_conv_groups: usize,
    /// Whether padding is set to zero before the positional convolutions: true in 1.0. In 2.0 values
    /// at padding reach the neighbouring positions. With either, a sample's features depend on its
    /// padding to some degree; pre-training never pads.
    pub clear_padding: bool,
    /// Whether the teacher copies the student's positional convolutions instead of averaging them:
    /// true in 1.0 on speech.
    pub shared_pos_conv: bool,
    /// Whether attention falls with distance, by a learned slope per head (`ALiBi`): true in 2.0.
    pub alibi: bool,
    /// Blocks before those that give targets; 8 for 2.0's L, else none.
    pub prenet_depth: usize,
    /// Blocks that give targets; 12 for B, 24 for 1.0's L, 16 for 2.0's L.
    pub depth: usize,
    /// Attention heads; 12 for B, 16 for L.
    pub n_heads: usize,
    /// Ratio of the MLP's width to `embed_dim`; 4.
    pub mlp_ratio: f64,
    /// Added to the variance by the norms; 1e-5.
    pub norm_eps: f64,
    /// Probability to drop a value of the blocks' input and of their branches; 0.1.
    pub drop_prob: f64,
    /// Probability to drop an attention weight; 0.1.
    pub attention_drop_prob: f64,
    /// Probability to skip a block; 0.05 for B, 0 for 2.0's L.
    pub layer_drop_prob: f64,
}

/// The text encoder of both methods: the tables `[model.data2vec1.text]` and
/// `[model.data2vec2.text]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TextConfig {
    /// Tokens of the vocabulary, special tokens included; 50265.
    pub vocab_size: usize,
    /// Id of the padding token; positions are counted from the id after it. 1.
    pub pad_token: usize,
    /// Greatest length of a row, in tokens; 512.
    pub max_tokens: usize,
    /// Whether attention falls with distance, by a learned slope per head (`ALiBi`), instead of
    /// learned positions; in no published config.
    #[serde(default)]
    pub alibi: bool,
    /// Width; 768 for B, 1024 for L.
    pub embed_dim: usize,
    /// Blocks; 12 for B, 24 for L.
    pub depth: usize,
    /// Attention heads; 12 for B, 16 for L.
    pub n_heads: usize,
    /// Ratio of the MLP's width to `embed_dim`; 4.
    pub mlp_ratio: f64,
    /// Added to the variance by the norms; 1e-5.
    pub norm_eps: f64,
    /// Probability to drop a value of the embedding and of the blocks' branches; 0.1.
    pub drop_prob: f64,
    /// Probability to drop an attention weight; 0.1.
    pub attention_drop_prob: f64,
}

/// The options of the one encoder of a config.
#[derive(Debug, Clone, Copy)]
pub enum EncoderConfig<'a> {
    /// Images, data2vec 1.0.
    Beit(&'a BeitConfig),
    /// Images, data2vec 2.0.
    Vit(&'a VitConfig),
    /// Audio, both methods.
    Audio(&'a AudioConfig),
    /// Text, both methods.
    Text(&'a TextConfig),
}

impl EncoderConfig<'_> {
    /// Width of the encoder, D.
    pub fn embed_dim(&self) -> usize {
        match self {
            Self::Beit(config) => config.embed_dim,
            Self::Vit(config) => config.embed_dim,
            Self::Audio(config) => config.embed_dim,
            Self::Text(config) => config.embed_dim,
        }
    }

    /// Number of blocks that can give targets.
    pub fn depth(&self) -> usize {
        match self {
            Self::Beit(config) => config.depth,
            Self::Vit(config) => config.depth,
            Self::Audio(config) => config.depth,
            Self::Text(config) => config.depth,
        }
    }

    /// The key of the encoder's table, which is its modality: `image`, `audio` or `text`.
    pub fn table(&self) -> &'static str {
        match self {
            Self::Beit(_) | Self::Vit(_) => "image",
            Self::Audio(_) => "audio",
            Self::Text(_) => "text",
        }
    }

    /// Ratio of the MLP's width to `embed_dim`.
    pub(crate) fn mlp_ratio(&self) -> f64 {
        match self {
            Self::Beit(config) => config.mlp_ratio,
            Self::Vit(config) => config.mlp_ratio,
            Self::Audio(config) => config.mlp_ratio,
            Self::Text(config) => config.mlp_ratio,
        }
    }

    /// Returns a message for each invalid option, without the name of the table.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut check = Check::default();
        let (n_heads, norm_eps) = match self {
            Self::Beit(c) => (c.n_heads, c.norm_eps),
            Self::Vit(c) => (c.n_heads, c.norm_eps),
            Self::Audio(c) => (c.n_heads, c.norm_eps),
            Self::Text(c) => (c.n_heads, c.norm_eps),
        };
        let mlp_ratio = self.mlp_ratio();
        let (dim, depth) = (self.embed_dim(), self.depth());
        check.at_most("embed_dim", dim, MOST_WIDTH);
        check.at_most("depth", depth, MOST_LAYERS);
        let mut n_blocks = depth as f64;
        match self {
            Self::Beit(config) => {
                check.divides(
                    ("patch_size", config.patch_size),
                    ("image_size", config.image_size),
                );
                check.grid(config.image_size, config.patch_size);
                check.prob("drop_path_prob", config.drop_path_prob);
                check.prob("attention_drop_prob", config.attention_drop_prob);
            }
            Self::Vit(config) => {
                check.divides(
                    ("patch_size", config.patch_size),
                    ("image_size", config.image_size),
                );
                check.grid(config.image_size, config.patch_size);
                check.at_most("prenet_depth", config.prenet_depth, MOST_LAYERS);
                n_blocks += config.prenet_depth as f64;
                check.require(config.embed_dim.is_multiple_of(4), || {
                    format!(
                        "embed_dim {} is not a multiple of 4, as the sin-cos positions need",
                        config.embed_dim
                    )
                });
            }
            Self::Audio(config) => {
                check.positive("conv_dim", config.conv_dim);
                check.at_most("conv_dim", config.conv_dim, MOST_WIDTH);
                check.at_most("prenet_depth", config.prenet_depth, MOST_LAYERS);
                n_blocks += config.prenet_depth as f64;
                check.at_most("pos_conv_depth", config.pos_conv_depth, MOST_LAYERS);
                check.at_most("pos_conv_kernel", config.pos_conv_kernel, MOST_WIDTH);
                check.at_most(
                    "conv_layers: their number",
                    config.conv_layers.len(),
                    MOST_LAYERS,
                );
                for &size in config.conv_layers.iter().flatten() {
                    check.at_most("conv_layers: kernel or stride", size, MOST_WIDTH);
                }
                let strides = config.conv_layers.iter().map(|&[_, stride]| stride);
                let hop = strides.fold(1, usize::saturating_mul);
                check.at_most("conv_layers: product of the strides", hop, MOST_HOP_FRAMES);
                let kernels = config.conv_layers.iter().map(|&[kernel, _]| kernel as f64);
                check.parameters(
                    "conv_layers",
                    (config.conv_dim as f64).powi(2) * kernels.sum::<f64>(),
                );
                let of_kernel = (config.pos_conv_depth as f64) * (config.pos_conv_kernel as f64);
                check.parameters(
                    "positional convolutions",
                    of_kernel * (dim as f64).powi(2) / config.pos_conv_groups.max(1) as f64,
                );
                check.require(
                    !config.conv_layers.is_empty()
                        && config.conv_layers.iter().flatten().all(|&n| n > 0),
                    || "conv_layers: every convolution needs a kernel and a stride".to_owned(),
                );
                let first = config.conv_layers.first().map_or(0, |layer| layer[0]);
                check.require(
                    !config.filter_bank || (config.conv_dim.is_multiple_of(2) && first > 1),
                    || "filter_bank: needs an even conv_dim, for cosines and sines, and a first kernel above 1".to_owned(),
                );
                check.odd("pos_conv_kernel", config.pos_conv_kernel);
                check.divides(
                    ("pos_conv_groups", config.pos_conv_groups),
                    ("embed_dim", config.embed_dim),
                );
                check.prob("drop_prob", config.drop_prob);
                check.prob("attention_drop_prob", config.attention_drop_prob);
                check.prob("layer_drop_prob", config.layer_drop_prob);
            }
            Self::Text(config) => {
                check.positive("max_tokens", config.max_tokens);
                check.at_most("max_tokens", config.max_tokens, MOST_TOKENS);
                check.at_most("vocab_size", config.vocab_size, MOST_TOKENS);
                let rows = config.vocab_size as f64 + config.max_tokens as f64;
                check.parameters("embedding tables", rows * dim as f64);
                check.require(config.pad_token < config.vocab_size, || {
                    format!(
                        "pad_token {} is not below vocab_size {}",
                        config.pad_token, config.vocab_size
                    )
                });
                check.prob("drop_prob", config.drop_prob);
                check.prob("attention_drop_prob", config.attention_drop_prob);
            }
        }
        check.divides(("n_heads", n_heads), ("embed_dim", self.embed_dim()));
        check.require(mlp_ratio > 0.0 && mlp_ratio <= MOST_MLP_RATIO, || {
            format!("mlp_ratio {mlp_ratio} is not in (0, {MOST_MLP_RATIO}]")
        });
        check.require(hidden_dim(dim, mlp_ratio) > 0, || {
            format!("mlp_ratio {mlp_ratio} leaves the MLP no width")
        });
        let per_block = (dim as f64).powi(2) * (4.0 + 2.0 * mlp_ratio);
        check.parameters("blocks (depth, embed_dim, mlp_ratio)", n_blocks * per_block);
        check.require(norm_eps > 0.0, || {
            format!("norm_eps {norm_eps} is not positive")
        });
        check.problems
    }
}

impl Check {
    fn grid(&mut self, image_size: usize, patch_size: usize) {
        let grid = image_size.checked_div(patch_size).unwrap_or(0);
        self.require(grid <= MOST_GRID && patch_size <= MOST_WIDTH, || {
            format!(
                "image_size {image_size} has {grid} patches of {patch_size} pixels per side, more \
                 than {MOST_GRID} of {MOST_WIDTH}"
            )
        });
    }
}

impl BeitConfig {
    /// Number of patches per side.
    pub fn grid(&self) -> usize {
        self.image_size / self.patch_size
    }
}

impl VitConfig {
    /// Number of patches per side.
    pub fn grid(&self) -> usize {
        self.image_size / self.patch_size
    }
}

impl AudioConfig {
    /// Number of positions of a waveform of `n_frames`; 0 if it is too short.
    pub fn n_positions(&self, n_frames: usize) -> usize {
        self.conv_layers
            .iter()
            .fold(n_frames, |n, &[kernel, stride]| {
                n.checked_sub(kernel).map_or(0, |rest| rest / stride + 1)
            })
    }

    /// PCM frames in the window of one position.
    pub fn window_frames(&self) -> usize {
        let layers = self.conv_layers.iter().rev();
        layers.fold(1, |window, &[kernel, stride]| {
            (window - 1) * stride + kernel
        })
    }

    /// PCM frames from one position to the next.
    pub fn hop_frames(&self) -> usize {
        self.conv_layers.iter().map(|[_, stride]| stride).product()
    }
}

impl TextConfig {
    /// Number of rows of the position table.
    pub fn n_position_rows(&self) -> usize {
        self.max_tokens + self.pad_token + 1
    }
}

#[cfg(test)]
mod tests {
    use crate::model::encoders::fixtures::tiny_audio;

    #[test]
    fn audio_positions_match_the_reference() {
        let mut config = tiny_audio();
        config.conv_layers = vec![[10, 5], [3, 2], [3, 2], [3, 2], [3, 2], [2, 2], [2, 2]];
        assert_eq!((config.window_frames(), config.hop_frames()), (400, 320));
        // Lengths of the reference code (data2vec.md, verification numbers).
        let found = [16_000, 32_000, 160_000, 320_000, 399, 0].map(|n| config.n_positions(n));
        assert_eq!(found, [49, 99, 499, 999, 0, 0]);
    }
}
