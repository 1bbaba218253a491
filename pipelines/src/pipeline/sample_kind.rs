//! The kind of a pipeline's samples: all that differs between images, audio, text and tokens before a
//! row is decoded.

use crate::config::{
    AudioConfig, DataConfig, ImageConfig, MaskConfig, MediaConfig, Modality, StepSize,
};
use crate::shard::{Kind, Length, Mixture, Vocabulary};
use crate::tokenize::{SpecialTokens, Tokenizer};
use crate::{Error, Result};

/// Bytes of text per token, for the cost of a text that is not tokenised yet: English has 4.2 to 4.5.
const BYTES_PER_TOKEN: u64 = 4;
/// Number of special tokens of one text, `<s>` and `</s>`.
const SENTENCE_SPECIALS: u64 = 2;

/// The kind of the samples, with the settings and the tokenizer that it needs. `worker/` decodes a row
/// by it, `collate/` makes batches by it.
pub(crate) enum SampleKind {
    Image(ImageConfig),
    Audio {
        config: AudioConfig,
        /// Largest length of a sample, in PCM frames at the config's rate.
        max_frames: usize,
    },
    /// Raw text, tokenised when it is read.
    Text {
        max_tokens: usize,
        tokenizer: Box<Tokenizer>,
    },
    /// Blocks of token ids, in the vocabulary that the dataset declares.
    Tokens(Vocabulary),
}

/// Returns the kinds of datasets that have samples of a modality, the preferred one first.
pub(crate) fn kinds(modality: Modality) -> &'static [Kind] {
    match modality {
        Modality::Image => &[Kind::Image],
        Modality::Audio => &[Kind::Audio],
        Modality::Text => &[Kind::Tokens, Kind::Text],
    }
}

impl SampleKind {
    /// Chooses the kind for open datasets, and opens the tokenizer that it needs.
    pub(crate) fn of(config: &DataConfig, mixture: &Mixture) -> Result<Self> {
        let url = &mixture.datasets()[0].location.url;
        let refuse = |problem: String| Err(Error::Config(vec![problem]));
        match (config.media(), mixture.tokenizer()) {
            (Some(MediaConfig::Image(image)), _) => Ok(Self::Image(image.clone())),
            (Some(MediaConfig::Audio(audio)), _) => Ok(Self::Audio {
                config: audio.clone(),
                max_frames: audio.max_frames,
            }),
            (Some(MediaConfig::Text(text)), Some(info)) => {
                if text.max_tokens < info.block_tokens as usize {
                    return refuse(format!(
                        "data.text.max_tokens: {}, but the blocks of {url} have {} tokens",
                        text.max_tokens, info.block_tokens
                    ));
                }
                Ok(Self::Tokens(info.clone()))
            }
            (Some(MediaConfig::Text(text)), None) => match &text.tokenizer {
                Some(path) => Ok(Self::Text {
                    max_tokens: text.max_tokens,
                    tokenizer: Box::new(Tokenizer::open(path.as_ref())?),
                }),
                None => refuse(format!(
                    "data.text.tokenizer: not set, but {url} has raw text\n\
                     hint: set it to the path of a vocabulary"
                )),
            },
            (None, _) => Err(Error::Config(config.problems())),
        }
    }

    /// Returns whether all samples have one shape, so that a micro-batch can join several lanes.
    pub(crate) fn joins_lanes(&self) -> bool {
        matches!(self, Self::Image(_) | Self::Tokens(_))
    }

    /// Returns the size of a step. Tokens in blocks of one size are counted by the block.
    pub(crate) fn step(&self, step: StepSize, lanes: usize) -> StepSize {
        match (self, step) {
            (Self::Tokens(info), StepSize::Cost(tokens)) => {
                let per_lane = tokens as usize / lanes / info.block_tokens as usize;
                StepSize::Samples(per_lane * lanes)
            }
            _ => step,
        }
    }

    /// Returns the largest cost of a row in a plan: frames or tokens.
    pub(crate) fn max_cost(&self) -> u32 {
        match self {
            Self::Audio { config, .. } => config.max_frames as u32,
            Self::Text { max_tokens, .. } => *max_tokens as u32,
            Self::Image(_) | Self::Tokens(_) => 1,
        }
    }

    /// Returns the cost of a row of this length in a plan: frames or tokens. The plan leaves out a row of
    /// cost 0.
    pub(crate) fn cost(&self, length: Length) -> u32 {
        match self {
            Self::Audio { config, .. } => {
                let n_frames = at_rate(length, config.sample_rate_hz);
                if n_frames < config.min_frames as u64 {
                    return 0;
                }
                n_frames.min(config.max_frames as u64) as u32
            }
            Self::Text { max_tokens, .. } if length.n > 0 => {
                let n_tokens = length.n.div_ceil(BYTES_PER_TOKEN) + SENTENCE_SPECIALS;
                n_tokens.min(*max_tokens as u64) as u32
            }
            Self::Text { .. } => 0,
            Self::Image(_) | Self::Tokens(_) => 1,
        }
    }

    /// Returns the bytes of one decoded sample.
    pub(crate) fn sample_bytes(&self, mask: Option<&MaskConfig>) -> usize {
        match self {
            Self::Image(image) => {
                let masks = mask.map_or(0, |mask| mask.n_masks() * mask.n_patches().unwrap_or(0));
                (image.size as usize).pow(2) * 3 + masks
            }
            Self::Audio { max_frames, .. } => max_frames * size_of::<f32>(),
            Self::Text { max_tokens, .. } => max_tokens * size_of::<u32>(),
            Self::Tokens(info) => info.block_tokens as usize * size_of::<u32>(),
        }
    }

    /// Returns the most bytes that the media and masks of a batch take, for at most `n_samples` samples
    /// and `lane_share` of each of its lanes.
    pub(crate) fn batch_bytes(
        &self,
        n_samples: usize,
        lane_share: StepSize,
        mask: Option<&MaskConfig>,
    ) -> usize {
        let n_masks = mask.map_or(0, MaskConfig::n_masks);
        match self {
            Self::Image(_) => n_samples * self.sample_bytes(mask),
            Self::Audio { config, max_frames } => {
                let n_frames = match lane_share {
                    StepSize::Samples(_) => n_samples * max_frames,
                    StepSize::Cost(n_frames) => n_frames as usize,
                };
                let n_positions = n_frames / config.hop_frames + n_samples;
                n_frames * size_of::<f32>() + n_masks * n_positions
            }
            Self::Text { .. } | Self::Tokens(_) => {
                let replaces = mask.is_some_and(MaskConfig::replaces_tokens);
                let student = if replaces { n_masks } else { 0 };
                let n_tokens = n_samples * self.sample_bytes(mask) / size_of::<u32>();
                n_tokens * (size_of::<u32>() * (1 + student) + n_masks)
            }
        }
    }

    /// Returns the SHA-256 of the vocabulary's files, in hex; `None` for images and audio.
    pub(crate) fn vocabulary_sha256(&self) -> Option<&str> {
        match self {
            Self::Image(_) | Self::Audio { .. } => None,
            Self::Text { tokenizer, .. } => Some(tokenizer.sha256()),
            Self::Tokens(info) => Some(&info.sha256),
        }
    }

    /// Returns the special tokens; `None` for images and audio.
    pub(crate) fn special_tokens(&self) -> Option<SpecialTokens> {
        match self {
            Self::Image(_) | Self::Audio { .. } => None,
            Self::Text { tokenizer, .. } => Some(tokenizer.special_tokens()),
            Self::Tokens(info) => Some(info.into()),
        }
    }
}

/// Returns the length of a row in frames at `rate_hz`. A length without a rate is in frames at that
/// rate.
pub(crate) fn at_rate(length: Length, rate_hz: u32) -> u64 {
    let from = u128::from(length.rate_hz.unwrap_or(rate_hz));
    (u128::from(length.n) * u128::from(rate_hz) / from) as u64
}
