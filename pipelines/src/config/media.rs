//! The tables `[data.image]`, `[data.audio]` and `[data.text]`: from media to samples.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The modality of samples: of a config, of a source that is written, of a mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Modality {
    /// Still images
    Image,
    /// Speech and other audio
    Audio,
    /// Texts, or blocks of their tokens
    Text,
}

impl Modality {
    /// Returns `images`, `audio` or `text`, for messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Image => "images",
            Self::Audio => "audio",
            Self::Text => "text",
        }
    }
}

/// The table of a config's modality.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MediaConfig<'a> {
    /// `[data.image]`.
    Image(&'a ImageConfig),
    /// `[data.audio]`.
    Audio(&'a AudioConfig),
    /// `[data.text]`, for texts or blocks of tokens.
    Text(&'a TextConfig),
}

impl MediaConfig<'_> {
    /// Returns the modality without its table.
    pub fn modality(self) -> Modality {
        match self {
            Self::Image(_) => Modality::Image,
            Self::Audio(_) => Modality::Audio,
            Self::Text(_) => Modality::Text,
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

/// The steps from an image to a training sample: jitter → flip → RandomResizedCrop.
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

/// The steps from an audio file to a training sample: mono → resample → normalise → crop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AudioConfig {
    /// Frames per second that the model takes; other rates are resampled.
    pub sample_rate_hz: u32,
    /// Least frames at that rate; shorter audio is left out of training.
    pub min_frames: usize,
    /// Most frames at that rate; in training, longer audio is cropped to this at a random place.
    pub max_frames: usize,
    /// Added to the variance when a waveform is normalised to mean 0 and variance 1, before any crop.
    pub normalize_eps: f64,
    /// Receptive field of one position of the model, in frames.
    pub window_frames: usize,
    /// Frames from one position to the next.
    pub hop_frames: usize,
}

/// The steps from a text to a training sample.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TextConfig {
    /// Most tokens of a sample, special tokens included; in training, longer texts are cropped at a
    /// random place.
    pub max_tokens: usize,
    /// The vocabulary of the tokenizer for raw text: a folder, or a `tokenizer.json`. A dataset of
    /// tokens carries its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<String>,
}

impl ImageConfig {
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |holds: bool, problem: String| {
            if !holds {
                problems.push(format!("data.image.{problem}"));
            }
        };
        check(self.size > 0, "size: must be at least 1".to_owned());
        let [from, to] = self.crop_scale;
        check(
            0.0 < from && from <= to && to <= 1.0,
            format!("crop_scale: must be increasing and in (0, 1], is [{from}, {to}]"),
        );
        let [from, to] = self.crop_ratio;
        check(
            0.0 < from && from <= to,
            format!("crop_ratio: must be increasing and above 0, is [{from}, {to}]"),
        );
        check(
            (0.0..=1.0).contains(&self.flip_prob),
            format!("flip_prob: must be in [0, 1], is {}", self.flip_prob),
        );
        check(
            (0.0..=1.0).contains(&self.color_jitter),
            format!("color_jitter: must be in [0, 1], is {}", self.color_jitter),
        );
        check(
            self.eval_resize >= self.size,
            format!(
                "eval_resize: must be at least size = {}, is {}",
                self.size, self.eval_resize
            ),
        );
        check(
            self.std.iter().all(|&std| std > 0.0),
            format!("std: must be above 0, is {:?}", self.std),
        );
        problems
    }
}

impl AudioConfig {
    /// Positions of the model over `n_frames` frames: every `hop_frames`-th window that fits.
    pub fn n_positions(&self, n_frames: usize) -> usize {
        match n_frames.checked_sub(self.window_frames) {
            None => 0,
            Some(rest) => rest / self.hop_frames + 1,
        }
    }

    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |holds: bool, problem: String| {
            if !holds {
                problems.push(format!("data.audio.{problem}"));
            }
        };
        check(
            self.sample_rate_hz > 0,
            "sample_rate_hz: must be at least 1".to_owned(),
        );
        check(
            self.hop_frames > 0,
            "hop_frames: must be at least 1".to_owned(),
        );
        check(
            self.window_frames > 0,
            "window_frames: must be at least 1".to_owned(),
        );
        check(
            self.min_frames >= self.window_frames,
            format!(
                "min_frames: {} is less than window_frames = {}",
                self.min_frames, self.window_frames
            ),
        );
        check(
            self.max_frames >= self.min_frames,
            format!(
                "max_frames: must be at least min_frames = {}, is {}",
                self.min_frames, self.max_frames
            ),
        );
        check(
            self.normalize_eps >= 0.0 && self.normalize_eps.is_finite(),
            format!(
                "normalize_eps: must be at least 0, is {}",
                self.normalize_eps
            ),
        );
        problems
    }
}

impl TextConfig {
    pub(super) fn problems(&self) -> Vec<String> {
        // `<s>`, a token, `</s>`.
        if self.max_tokens >= 3 {
            return Vec::new();
        }
        vec![format!(
            "data.text.max_tokens: must be at least 3, is {}",
            self.max_tokens
        )]
    }
}
