//! Kinds of datasets: images, audio, texts, tokens.

use arrow::datatypes::Schema;
use understudy_schemas::{TOKENIZER_KEY, Vocabulary};

use crate::{Error, Result, SampleError};

/// Kind of the rows of a dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Encoded images.
    Image,
    /// Encoded audio.
    Audio,
    /// Texts in UTF-8.
    Text,
    /// Blocks of token ids.
    Tokens,
}

impl Kind {
    /// All kinds, in the order in which a dataset is tried for them.
    pub const ALL: [Kind; 4] = [Kind::Image, Kind::Audio, Kind::Tokens, Kind::Text];

    /// Returns our names of its columns; the first holds the media.
    pub(super) fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Image => &["image", "label", "bytes_xxh3", "label_xxh3"],
            Self::Audio => &[
                "audio",
                "label",
                "bytes_xxh3",
                "label_xxh3",
                "n_frames",
                "sample_rate_hz",
            ],
            Self::Text => &[
                "text",
                "label",
                "bytes_xxh3",
                "label_xxh3",
                "text_b",
                "n_bytes",
            ],
            Self::Tokens => &["tokens", "label", "bytes_xxh3", "n_tokens"],
        }
    }

    /// Returns our name of the column that holds the media.
    pub fn media_column(self) -> &'static str {
        self.columns()[0]
    }
}

/// Returns the ids of a block without its padding: the first `n_tokens`, or all up to the last that
/// is not `<pad>`.
///
/// # Errors
///
/// [`SampleError::Decode`] if there are fewer, or none, or one is not in the vocabulary.
pub fn unpadded_tokens(
    vocabulary: &Vocabulary,
    block: &[u8],
    n_tokens: Option<i64>,
) -> Result<Vec<u32>, SampleError> {
    let little_endian = |id: &[u8]| {
        id.iter()
            .rev()
            .fold(0, |id, &byte| id << 8 | u32::from(byte))
    };
    let mut tokens: Vec<u32> = block
        .chunks_exact(vocabulary.width_bytes as usize)
        .map(little_endian)
        .collect();
    let n_own = if let Some(n) = n_tokens {
        usize::try_from(n).unwrap_or(0)
    } else {
        let last = tokens.iter().rposition(|&id| id != vocabulary.pad);
        last.map_or(0, |last| last + 1)
    };
    if n_own == 0 || n_own > tokens.len() {
        return Err(SampleError::Decode(format!(
            "{} tokens without padding in a block of {}",
            n_tokens.unwrap_or(0),
            tokens.len()
        )));
    }
    tokens.truncate(n_own);
    match tokens.iter().find(|&&id| id >= vocabulary.vocab_size) {
        None => Ok(tokens),
        Some(id) => Err(SampleError::Decode(format!(
            "the id {id} is not in the vocabulary of {}",
            vocabulary.vocab_size
        ))),
    }
}

/// Reads the vocabulary of a token dataset from the file's metadata; its blocks take `block_bytes`.
pub(super) fn vocabulary_of(schema: &Schema, shard: &str, block_bytes: i32) -> Result<Vocabulary> {
    let error = |reason: String| Error::Schema {
        shard: shard.to_owned(),
        column: "tokens".to_owned(),
        reason,
    };
    let json = schema.metadata().get(TOKENIZER_KEY).ok_or_else(|| {
        error(format!(
            "the file's metadata has no `{TOKENIZER_KEY}`, which says what the ids mean\n\
             hint: write the dataset with `shards write`"
        ))
    })?;
    let info: Vocabulary = serde_json::from_str(json)
        .map_err(|found| error(format!("invalid metadata `{TOKENIZER_KEY}`: {found}")))?;
    if !matches!(info.width_bytes, 2 | 4)
        || u64::from(info.width_bytes) * u64::from(info.block_tokens) != block_bytes as u64
    {
        return Err(error(format!(
            "blocks of {block_bytes} bytes do not hold {} tokens of {} bytes, as the metadata \
             `{TOKENIZER_KEY}` says",
            info.block_tokens, info.width_bytes
        )));
    }
    Ok(info)
}
