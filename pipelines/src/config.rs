//! The table `[data]` of a recipe: where samples come from and what becomes of them.

use std::collections::BTreeMap;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

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

impl MaskConfig {
    /// Patches per side of the grid.
    pub fn grid(&self) -> usize {
        match *self {
            Self::BeitBlock { grid, .. } | Self::InverseBlock { grid, .. } => grid,
        }
    }
}

impl DataConfig {
    /// Reads the table `[data]` of a recipe; its other tables are the trainer's.
    pub fn read(recipe: &Path) -> Result<Self> {
        #[derive(Deserialize)]
        struct Recipe {
            data: DataConfig,
        }
        let text = std::fs::read_to_string(recipe).map_err(|source| Error::Io {
            path: recipe.to_owned(),
            source,
        })?;
        let Recipe { data } = toml::from_str(&text)
            .map_err(|error| Error::Config(vec![format!("{}: {error}", recipe.display())]))?;
        Ok(data)
    }

    /// Everything that cannot work, as `key: what is wrong`.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |holds: bool, problem: String| {
            if !holds {
                problems.push(problem);
            }
        };
        check(self.batch > 0, "data.batch: must be at least 1".to_owned());
        check(
            self.lanes > 0 && self.batch.is_multiple_of(self.lanes.max(1)),
            format!(
                "data.lanes: {} does not divide data.batch = {}",
                self.lanes, self.batch
            ),
        );
        check(
            self.window_chunks > 0,
            "data.window_chunks: must be at least 1".to_owned(),
        );
        check(
            (0.0..=1.0).contains(&self.max_bad_fraction),
            format!(
                "data.max_bad_fraction: must lie in [0, 1], is {}",
                self.max_bad_fraction
            ),
        );
        if let Err(reason) = crate::budget::parse_bytes(&self.memory) {
            check(false, format!("data.memory: {reason}"));
        }
        let image = &self.image;
        check(
            image.size > 0,
            "data.image.size: must be at least 1".to_owned(),
        );
        let [from, to] = image.crop_scale;
        check(
            0.0 < from && from <= to && to <= 1.0,
            format!("data.image.crop_scale: must rise within (0, 1], is [{from}, {to}]"),
        );
        let [from, to] = image.crop_ratio;
        check(
            0.0 < from && from <= to,
            format!("data.image.crop_ratio: must rise and be above 0, is [{from}, {to}]"),
        );
        check(
            (0.0..=1.0).contains(&image.flip_prob),
            format!(
                "data.image.flip_prob: must lie in [0, 1], is {}",
                image.flip_prob
            ),
        );
        check(
            (0.0..=1.0).contains(&image.color_jitter),
            format!(
                "data.image.color_jitter: must lie in [0, 1], is {}",
                image.color_jitter
            ),
        );
        check(
            image.eval_resize >= image.size,
            format!(
                "data.image.eval_resize: must be at least size = {}, is {}",
                image.size, image.eval_resize
            ),
        );
        check(
            image.std.iter().all(|&std| std > 0.0),
            format!("data.image.std: must be above 0, is {:?}", image.std),
        );
        match self.mask {
            MaskConfig::BeitBlock {
                grid,
                n_masked,
                min_area,
                min_aspect,
            } => {
                check(
                    0 < n_masked && n_masked < grid * grid,
                    format!(
                        "data.mask.beit_block.n_masked: {n_masked} of {} patches",
                        grid * grid
                    ),
                );
                check(
                    min_area > 0 && min_area <= n_masked,
                    format!(
                        "data.mask.beit_block.min_area: must lie in 1..={n_masked}, is {min_area}"
                    ),
                );
                check(
                    0.0 < min_aspect && min_aspect <= 1.0,
                    format!("data.mask.beit_block.min_aspect: must lie in (0, 1], is {min_aspect}"),
                );
            }
            MaskConfig::InverseBlock {
                grid,
                n_masks,
                mask_prob,
                mask_prob_adjust,
                block,
            } => {
                check(
                    n_masks > 0,
                    "data.mask.inverse_block.n_masks: must be at least 1".to_owned(),
                );
                check(
                    0.0 < mask_prob && mask_prob < 1.0,
                    format!(
                        "data.mask.inverse_block.mask_prob: must lie in (0, 1), is {mask_prob}"
                    ),
                );
                check(
                    mask_prob_adjust >= 0.0,
                    format!(
                        "data.mask.inverse_block.mask_prob_adjust: must be at least 0, is {mask_prob_adjust}"
                    ),
                );
                check(
                    block > 0 && block <= grid,
                    format!("data.mask.inverse_block.block: must lie in 1..={grid}, is {block}"),
                );
            }
        }
        problems
    }
}

/// What one sample may cost before it is called bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Encoded bytes.
    pub bytes: u64,
    /// Pixels of the decoded picture, before any resize.
    pub pixels: u64,
    /// Seconds of sound, of the whole file even where only a clip is decoded.
    pub seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        // A 64-megapixel picture takes 200 MB decoded: larger ones are faults more often than data.
        Self {
            bytes: 64 << 20,
            pixels: 64_000_000,
            seconds: 3600,
        }
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
