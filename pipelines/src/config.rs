//! The table `[data]` of a recipe: where samples come from and what becomes of them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where samples come from and what becomes of them: the table `[data]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// The training set: a folder or file of shards, as a path or URL.
    pub train: String,
    /// The validation set, for `understudy evaluate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val: Option<String>,
    /// Our name of a column → its name in the shards, for sets that use others.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, String>,
    /// Seed of order, crops and masks.
    pub seed: u64,
    /// Samples per optimizer step, over all ranks.
    pub batch: usize,
    /// Streams that an epoch is split into; divides `batch`, and the number of ranks divides it.
    pub lanes: usize,
    /// Chunks (row groups, or runs of rows of one) that each lane shuffles together.
    pub window_chunks: usize,
    /// All buffers of the pipeline together, for example `"2GiB"`.
    pub memory: String,
    /// Share of bad samples at which the run stops.
    pub max_bad_fraction: f64,
    /// What one sample may cost.
    #[serde(default)]
    pub limits: Limits,
    /// How a picture becomes a training sample.
    pub image: ImageConfig,
    /// Which patches the student does not see.
    pub mask: MaskConfig,
}

/// What one sample may cost before it is called bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Encoded bytes.
    pub bytes: u64,
    /// Pixels of the decoded picture, before any resize.
    pub pixels: u64,
}

impl Default for Limits {
    fn default() -> Self {
        // A 64-megapixel picture takes 200 MB decoded: larger ones are faults more often than data.
        Self { bytes: 64 << 20, pixels: 64_000_000 }
    }
}

/// Interpolation of a resize, both antialiased as Pillow does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// Triangle filter.
    Bilinear,
    /// Keys' cubic with a = −0.5.
    Bicubic,
}

/// How a picture becomes a training sample: jitter → flip → RandomResizedCrop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageConfig {
    /// Side of the square crop, in pixels.
    pub size: u32,
    /// Share of the area that a random crop takes, from–to.
    pub crop_scale: [f64; 2],
    /// Aspect ratio of a random crop, from–to.
    pub crop_ratio: [f64; 2],
    /// Interpolation.
    pub filter: Filter,
    /// Probability of a horizontal flip.
    pub flip_prob: f64,
    /// Brightness, contrast and saturation are each multiplied by 1 ± this; 0 leaves them.
    pub color_jitter: f32,
    /// Short side before the centre crop of evaluation, in pixels.
    pub eval_resize: u32,
    /// Mean per channel, of pixel values in 0–1; subtracted on the device.
    pub mean: [f32; 3],
    /// Standard deviation per channel, of pixel values in 0–1; divided by on the device.
    pub std: [f32; 3],
}

/// Which patches the student does not see. The grid is square.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum MaskConfig {
    /// BEiT's block-wise mask (data2vec 1.0).
    BeitBlock {
        /// Patches per side.
        grid: usize,
        /// Patches to mask; a mask may end up a few short.
        n_masked: usize,
        /// Smallest block, in patches.
        min_area: usize,
        /// Least height / width of a block; the greatest is its inverse.
        min_aspect: f64,
    },
    /// data2vec 2.0's inverse block mask: blocks are kept, the rest is masked.
    InverseBlock {
        /// Patches per side.
        grid: usize,
        /// Masks per sample, M.
        n_masks: usize,
        /// Share of patches masked, R.
        mask_prob: f64,
        /// Added to the kept share before blocks are counted, A.
        mask_prob_adjust: f64,
        /// Side of a kept block, in patches, b.
        block: usize,
    },
}
