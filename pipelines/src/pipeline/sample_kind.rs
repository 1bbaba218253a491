//! What becomes of a row, and what a batch is made of.

use crate::config::{AudioConfig, DataConfig, ImageConfig, Modality, StepSize};
use crate::shard::{Kind, Length, Mixture, Vocabulary};
use crate::tokenize::{SpecialTokens, Tokenizer};
use crate::{Error, Result};

/// Bytes of text that a token stands for, where only bytes are known: English has 4.2 to 4.5.
const BYTES_PER_TOKEN: u64 = 4;
/// `<s>` and `</s>`.
const SENTENCE_SPECIALS: u64 = 2;

/// What becomes of a row, and what a batch is made of.
pub(crate) enum Recipe {
    Image(ImageConfig),
    Audio {
        config: AudioConfig,
        /// Frames of a sample that may come out, at the recipe's rate.
        most_frames: usize,
    },
    Text {
        max_tokens: usize,
        tokenizer: Box<Tokenizer>,
    },
    Tokens(Vocabulary),
}

/// What a set may be made of to serve a recipe.
pub(crate) fn kinds(modality: Modality) -> &'static [Kind] {
    match modality {
        Modality::Image(_) => &[Kind::Image],
        Modality::Audio(_) => &[Kind::Audio],
        Modality::Text(_) => &[Kind::Tokens, Kind::Text],
    }
}

impl Recipe {
    /// The recipe for the rows of open sets.
    pub(crate) fn of(config: &DataConfig, sets: &Mixture) -> Result<Self> {
        let url = &sets.datasets()[0].location.url;
        let refuse = |problem: String| Err(Error::Config(vec![problem]));
        match (config.modality(), sets.tokenizer()) {
            (Some(Modality::Image(image)), _) => Ok(Self::Image(image.clone())),
            (Some(Modality::Audio(audio)), _) => Ok(Self::Audio {
                config: audio.clone(),
                most_frames: audio.max_frames,
            }),
            (Some(Modality::Text(text)), Some(info)) => {
                if text.max_tokens < info.block_tokens as usize {
                    return refuse(format!(
                        "data.text.max_tokens: {}, but the blocks of {url} have {} tokens",
                        text.max_tokens, info.block_tokens
                    ));
                }
                Ok(Self::Tokens(info.clone()))
            }
            (Some(Modality::Text(text)), None) => match &text.tokenizer {
                Some(path) => Ok(Self::Text {
                    max_tokens: text.max_tokens,
                    tokenizer: Box::new(Tokenizer::open(path.as_ref())?),
                }),
                None => refuse(format!(
                    "data.text.tokenizer: {url} holds raw text, which needs a vocabulary"
                )),
            },
            (None, _) => Err(Error::Config(config.problems())),
        }
    }

    /// Whether samples all have one shape, so that lanes can be joined in one batch.
    pub(crate) fn joins_lanes(&self) -> bool {
        matches!(self, Self::Image(_) | Self::Tokens(_))
    }

    /// What a step takes: tokens in blocks of one size are counted by the block.
    pub(crate) fn step(&self, step: StepSize, lanes: usize) -> StepSize {
        match (self, step) {
            (Self::Tokens(info), StepSize::Cost(tokens)) => {
                let per_lane = tokens as usize / lanes / info.block_tokens as usize;
                StepSize::Samples(per_lane * lanes)
            }
            _ => step,
        }
    }

    /// The most that a row costs in a plan.
    pub(crate) fn most_cost(&self) -> u32 {
        match self {
            Self::Audio { config, .. } => config.max_frames as u32,
            Self::Text { max_tokens, .. } => *max_tokens as u32,
            Self::Image(_) | Self::Tokens(_) => 1,
        }
    }

    /// What a row of this length costs in a plan; 0 leaves it out.
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

    /// SHA-256 of the vocabulary's files, in hex, of a recipe for text.
    pub(crate) fn vocabulary_sha256(&self) -> Option<&str> {
        match self {
            Self::Image(_) | Self::Audio { .. } => None,
            Self::Text { tokenizer, .. } => Some(tokenizer.sha256()),
            Self::Tokens(info) => Some(&info.sha256),
        }
    }

    /// The special tokens of a recipe for text.
    pub(crate) fn specials(&self) -> Option<SpecialTokens> {
        match self {
            Self::Image(_) | Self::Audio { .. } => None,
            Self::Text { tokenizer, .. } => Some(tokenizer.special_tokens()),
            Self::Tokens(info) => Some(info.into()),
        }
    }
}

/// Frames of a recording at `rate_hz`; without a rate of its own it is taken to have that.
pub(crate) fn at_rate(length: Length, rate_hz: u32) -> u64 {
    let from = u128::from(length.rate_hz.unwrap_or(rate_hz));
    (u128::from(length.n) * u128::from(rate_hz) / from) as u64
}
