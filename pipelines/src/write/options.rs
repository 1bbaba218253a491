//! What becomes of each sample, by modality.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use understudy_schemas::{AUDIO, IMAGE, Schema, TEXT, TOKENS};

use crate::config::Modality;

/// What becomes of each sample.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EncodeOptions {
    /// One picture per row.
    Image(ImageOptions),
    /// One recording per row.
    Audio(AudioOptions),
    /// One document, sentence or pair of sentences per row.
    Text,
    /// Documents as tokens, packed into blocks of one size.
    Tokens(TokenOptions),
}

/// What becomes of each picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageOptions {
    /// Larger pictures are made so many pixels at the short side (and stored as JPEG).
    pub resize_short: Option<u32>,
    /// Quality of the JPEGs that are encoded anew, 1–100.
    pub quality: u8,
    /// Which pictures are encoded anew.
    pub encode: Encode,
    /// How pictures are tested.
    pub check: Check,
}

/// What becomes of each recording.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioOptions {
    /// How recordings are tested.
    pub check: Check,
}

/// How documents become blocks of tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenOptions {
    /// Folder or file of the vocabulary. A run that goes on may find the same one elsewhere.
    #[serde(skip)]
    pub tokenizer: PathBuf,
    /// Tokens of a block, `<s>` included.
    pub block_tokens: u32,
    /// Where blocks end.
    pub break_at: BlockBoundary,
}

/// Which pictures are encoded anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encode {
    /// Only those that are resized; the rest stay as they came.
    Keep,
    /// All, as JPEG.
    Jpeg,
}

/// How media are tested before they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// Decoded whole: finds truncated and damaged files.
    Decode,
    /// The header alone: many times faster, finds only what is no medium or over a limit.
    Header,
}

/// Where blocks of tokens end, by fairseq's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockBoundary {
    /// `complete_doc`: a block holds whole lines of one document (data2vec 1.0).
    Document,
    /// `none`: one stream, cut wherever a block is full (data2vec 2.0).
    None,
}

impl EncodeOptions {
    /// Our names of columns that `--columns` may map to a source's; the first is the media.
    pub fn columns(&self) -> &'static [&'static str] {
        match self {
            Self::Image(_) => &["image", "label"],
            Self::Audio(_) => &["audio", "transcript", "speaker", "label"],
            Self::Text => &["text", "text_b", "label", "score"],
            Self::Tokens(_) => &["text"],
        }
    }

    pub(crate) fn modality(&self) -> Modality {
        match self {
            Self::Image(_) => Modality::Image,
            Self::Audio(_) => Modality::Audio,
            Self::Text | Self::Tokens(_) => Modality::Text,
        }
    }

    /// The schema of the shards.
    pub(crate) fn schema(&self) -> &'static Schema {
        match self {
            Self::Image(_) => &IMAGE,
            Self::Audio(_) => &AUDIO,
            Self::Text => &TEXT,
            Self::Tokens(_) => &TOKENS,
        }
    }

    /// The options in which two recipes of one schema differ.
    pub(crate) fn differences(&self, other: &Self) -> Vec<&'static str> {
        let all = match (self, other) {
            (Self::Image(a), Self::Image(b)) => vec![
                ("--resize-short", a.resize_short != b.resize_short),
                ("--quality", a.quality != b.quality),
                ("--encode", a.encode != b.encode),
                ("--check", a.check != b.check),
            ],
            (Self::Audio(a), Self::Audio(b)) => vec![("--check", a.check != b.check)],
            (Self::Tokens(a), Self::Tokens(b)) => vec![
                ("--block-tokens", a.block_tokens != b.block_tokens),
                ("--break", a.break_at != b.break_at),
            ],
            _ => Vec::new(),
        };
        let differing = all.into_iter().filter(|(_, differs)| *differs);
        differing.map(|(name, _)| name).collect()
    }
}
