//! One sample becomes what is stored of it: read, checked, hashed; or why it cannot.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use super::labels::Labels;
use super::pack::Document;
use super::picture::picture_row;
use super::recipe::Recipe;
use super::recording::recording_row;
use super::source::{Body, Facts, RawSample};
use super::text::{document, text_row};
use crate::config::Limits;
use crate::tokenize::Tokenizer;
use crate::{Error, Result, SampleError};

/// One row of a shard.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Row {
    /// A row of `schemas/image.toml`.
    Image {
        bytes: Vec<u8>,
        path: Option<String>,
        width: u32,
        height: u32,
        label: Option<i64>,
        xxh3: u64,
    },
    /// A row of `schemas/audio.toml`.
    Audio {
        bytes: Vec<u8>,
        path: Option<String>,
        sample_rate_hz: u32,
        n_frames: u64,
        transcript: Option<String>,
        speaker: Option<String>,
        label: Option<i64>,
        xxh3: u64,
    },
    /// A row of `schemas/text.toml`.
    Text {
        text: String,
        text_b: Option<String>,
        label: Option<i64>,
        score: Option<f32>,
        xxh3: u64,
    },
    /// A row of `schemas/tokens.toml`.
    Tokens {
        bytes: Vec<u8>,
        n_tokens: u32,
        xxh3: u64,
    },
}

impl Row {
    /// Bytes of media.
    pub(crate) fn n_bytes(&self) -> u64 {
        let n = match self {
            Self::Image { bytes, .. } | Self::Audio { bytes, .. } | Self::Tokens { bytes, .. } => {
                bytes.len()
            }
            Self::Text { text, text_b, .. } => text.len() + text_b.as_ref().map_or(0, String::len),
        };
        n as u64
    }

    /// Tokens of a block, without padding.
    pub(crate) fn n_tokens(&self) -> Option<u64> {
        match self {
            Self::Tokens { n_tokens, .. } => Some(u64::from(*n_tokens)),
            Self::Image { .. } | Self::Audio { .. } | Self::Text { .. } => None,
        }
    }
}

/// What a good sample gives.
#[derive(Debug)]
pub(crate) enum Product {
    /// A row.
    Row(Row),
    /// Tokens for the blocks.
    Document(Document),
}

/// A sample that cannot be stored.
#[derive(Debug)]
pub(crate) struct BadSample {
    pub(crate) place: String,
    pub(crate) reason: SampleError,
}

/// Makes what is stored of a sample. The outer error stops the run (a disk that fails is not the
/// fault of the sample's bytes), the inner one puts the sample into quarantine. With a `tokenizer`,
/// which token sets have, the sample becomes tokens.
pub(crate) fn prepare(
    sample: RawSample,
    recipe: &Recipe,
    labels: &Labels,
    tokenizer: Option<&Tokenizer>,
) -> Result<Result<Product, BadSample>> {
    let limits = Limits::default();
    let RawSample {
        place,
        path,
        body,
        label,
        facts,
    } = sample;
    let over = |found: u64| SampleError::Limit {
        what: "bytes",
        found,
        limit: limits.bytes,
    };
    let bytes = match body {
        Body::Bad(reason) => Err(reason),
        Body::Bytes(bytes) => Ok(bytes),
        Body::File(_, found) | Body::Slice(_, _, found) if found > limits.bytes => Err(over(found)),
        Body::File(path, _) => Ok(std::fs::read(&path).map_err(|error| fault(&path, error))?),
        Body::Slice(path, offset, bytes) => read_slice(&path, offset, bytes)?,
    };
    let product = bytes.and_then(|bytes| {
        if bytes.len() as u64 > limits.bytes {
            return Err(over(bytes.len() as u64));
        }
        if bytes.is_empty() {
            return Err(SampleError::Empty);
        }
        if let Some(tokenizer) = tokenizer {
            let goes_on = matches!(facts, Facts::Text { goes_on: true, .. });
            return document(bytes, goes_on, tokenizer).map(Product::Document);
        }
        let label = labels.resolve(&label)?;
        let row = match recipe {
            Recipe::Image(recipe) => picture_row(bytes, path, label, recipe, &limits),
            Recipe::Audio(recipe) => recording_row(bytes, path, label, facts, recipe, &limits),
            Recipe::Text | Recipe::Tokens(_) => text_row(bytes, label, facts),
        };
        row.map(Product::Row)
    });
    Ok(product.map_err(|reason| BadSample { place, reason }))
}

/// A file that cannot be read now, its rights say, may be read tomorrow: the writing stops, and goes
/// on when the same command is given again.
fn fault(path: &Path, source: io::Error) -> Error {
    Error::Io {
        path: path.to_owned(),
        source,
    }
}

/// A part of a file; it is the sample's fault where the file ends before it.
fn read_slice(path: &Path, offset: u64, length: u64) -> Result<Result<Vec<u8>, SampleError>> {
    let read = || {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.take(length).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = match read() {
        Ok(bytes) => bytes,
        Err(error) => return Err(fault(path, error)),
    };
    if bytes.len() as u64 == length {
        return Ok(Ok(bytes));
    }
    let reason = format!("{} ends before byte {}", path.display(), offset + length);
    Ok(Err(SampleError::Decode(reason)))
}
