//! Options of encoding, by modality.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use understudy_schemas::{AUDIO, IMAGE, Schema, TEXT, TOKENS};

use crate::config::Modality;

/// Encoding of each sample, by schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EncodeOptions {
    /// One image per row.
    Image(ImageOptions),
    /// One audio file per row.
    Audio(AudioOptions),
    /// One document, sentence or pair of sentences per row.
    Text,
    /// Documents as tokens, packed into blocks of one size.
    Tokens(TokenOptions),
}

/// Encoding of images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageOptions {
    /// Resizes larger images to this many pixels at the short side, and stores them as JPEG.
    pub resize_short: Option<u32>,
    /// Quality of images that are encoded again as JPEG, 1–100.
    pub quality: u8,
    /// Selects the images that are encoded again.
    pub encode: Encode,
    /// How thoroughly images are checked.
    pub check: Check,
}

/// Encoding of audio.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioOptions {
    /// How thoroughly audio is checked.
    pub check: Check,
}

/// Packing of documents into blocks of tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenOptions {
    /// Folder or file of the vocabulary. A resumed run may have the same one at another path.
    #[serde(skip)]
    pub tokenizer: PathBuf,
    /// Tokens per block, including `<s>`.
    pub block_tokens: u32,
    /// Boundary at which a block ends.
    pub break_at: BlockBoundary,
}

/// Images that are encoded again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encode {
    /// Only resized images; all others keep their bytes.
    Keep,
    /// All images, as JPEG.
    Jpeg,
}

/// Check of each sample before it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// Decodes all of it: finds truncated and damaged files.
    Decode,
    /// Reads only the header: many times faster, but finds only unsupported files and exceeded limits.
    Header,
}

/// Boundary at which a block of tokens ends; fairseq's name in parentheses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockBoundary {
    /// A block holds complete lines of one document (`complete_doc`, data2vec 1.0).
    Document,
    /// Blocks are cut from one stream of all documents (`none`, data2vec 2.0).
    None,
}

impl EncodeOptions {
    /// Returns the column names that `--columns` may map to a source's; the first is the media.
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

    /// Returns the schema of the shards.
    pub(crate) fn schema(&self) -> &'static Schema {
        match self {
            Self::Image(_) => &IMAGE,
            Self::Audio(_) => &AUDIO,
            Self::Text => &TEXT,
            Self::Tokens(_) => &TOKENS,
        }
    }

    /// Returns the command-line options that differ between two encodings of one schema.
    pub(crate) fn changed_options(&self, other: &Self) -> Vec<&'static str> {
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
