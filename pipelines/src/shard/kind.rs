//! What the rows of a dataset are.

use arrow::datatypes::Schema;
use understudy_schemas::{TOKENIZER_KEY, Vocabulary};

use crate::{Error, Result, SampleError};

/// What the rows of a dataset are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Encoded pictures.
    Image,
    /// Encoded recordings.
    Audio,
    /// Texts as they are.
    Text,
    /// Blocks of token ids.
    Tokens,
}

impl Kind {
    /// All of them, in the order in which a dataset is tried for.
    pub const ALL: [Kind; 4] = [Kind::Image, Kind::Audio, Kind::Tokens, Kind::Text];

    /// Our names of its columns; the first holds the media.
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

    /// Our name of the column that holds the media.
    pub fn media_column(self) -> &'static str {
        self.columns()[0]
    }
}

/// The ids of a block without its padding: `n_tokens` of them, or all up to the last that is
/// not `<pad>`.
///
/// # Errors
///
/// [`SampleError::Decode`] if there are not so many, or none, or one is not in the vocabulary.
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
            "{} own tokens in a block of {}",
            n_tokens.unwrap_or(0),
            tokens.len()
        )));
    }
    tokens.truncate(n_own);
    match tokens.iter().find(|&&id| id >= vocabulary.vocab_size) {
        None => Ok(tokens),
        Some(id) => Err(SampleError::Decode(format!(
            "the id {id} is none of the {} of the vocabulary",
            vocabulary.vocab_size
        ))),
    }
}

/// The vocabulary of a dataset whose blocks take `block_bytes`.
pub(super) fn vocabulary_of(schema: &Schema, shard: &str, block_bytes: i32) -> Result<Vocabulary> {
    let error = |reason: String| Error::Schema {
        shard: shard.to_owned(),
        column: "tokens".to_owned(),
        reason,
    };
    let json = schema.metadata().get(TOKENIZER_KEY).ok_or_else(|| {
        error(format!(
            "the file's metadata has no `{TOKENIZER_KEY}`: nobody can tell what the ids mean; \
             write the dataset with `shards write`"
        ))
    })?;
    let info: Vocabulary = serde_json::from_str(json)
        .map_err(|found| error(format!("the metadata `{TOKENIZER_KEY}`: {found}")))?;
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
