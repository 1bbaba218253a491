//! What the rows of a set are.

use arrow::datatypes::Schema;
use serde::{Deserialize, Serialize};

use crate::{Error, Result, SampleError};

/// Key of the file metadata in which a set of tokens describes its vocabulary.
pub const TOKENIZER_KEY: &str = "understudy.tokenizer";

/// What the rows of a set are.
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
    /// All of them, in the order in which a set is tried for.
    pub const ALL: [Kind; 4] = [Kind::Image, Kind::Audio, Kind::Tokens, Kind::Text];

    /// Our names of its columns; the first holds the media.
    pub(super) fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Image => &["image", "label", "bytes_xxh3"],
            Self::Audio => &["audio", "label", "bytes_xxh3", "n_frames", "sample_rate_hz"],
            Self::Text => &["text", "label", "bytes_xxh3", "text_b", "n_bytes"],
            Self::Tokens => &["tokens", "label", "bytes_xxh3", "n_tokens"],
        }
    }

    /// Our name of the column that holds the media.
    pub fn media_column(self) -> &'static str {
        self.columns()[0]
    }
}

/// What a set of tokens says of its vocabulary, in the metadata of each file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenizerInfo {
    /// What the tokenizer is called.
    pub name: String,
    /// Number of ids.
    pub vocab_size: u32,
    /// Id of the token that begins a sample.
    pub bos: u32,
    /// Id of the token that ends a sentence.
    pub eos: u32,
    /// Id of the token behind a sample's own.
    pub pad: u32,
    /// Id of what the vocabulary does not have.
    pub unk: u32,
    /// Id of the token that stands for a hidden one.
    pub mask: u32,
    /// Bytes of an id in a block: 2 or 4, little-endian.
    pub width_bytes: usize,
    /// Ids of a block, padding included.
    pub block_tokens: usize,
    /// SHA-256 of the vocabulary's files.
    pub sha256: String,
}

impl TokenizerInfo {
    /// The ids of a block without its padding: `n_tokens` of them, or all up to the last that is
    /// not `<pad>`.
    ///
    /// # Errors
    ///
    /// [`SampleError::Decode`] if there are not so many, or none, or one is not in the vocabulary.
    pub fn own_tokens(&self, block: &[u8], n_tokens: Option<i64>) -> Result<Vec<u32>, SampleError> {
        let little_endian = |id: &[u8]| {
            id.iter()
                .rev()
                .fold(0, |id, &byte| id << 8 | u32::from(byte))
        };
        let mut tokens: Vec<u32> = block
            .chunks_exact(self.width_bytes)
            .map(little_endian)
            .collect();
        let n_own = if let Some(n) = n_tokens {
            usize::try_from(n).unwrap_or(0)
        } else {
            let last = tokens.iter().rposition(|&id| id != self.pad);
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
        match tokens.iter().find(|&&id| id >= self.vocab_size) {
            None => Ok(tokens),
            Some(id) => Err(SampleError::Decode(format!(
                "the id {id} is none of the {} of the vocabulary",
                self.vocab_size
            ))),
        }
    }

    /// The vocabulary of a set whose blocks take `block_bytes`.
    pub(super) fn of(schema: &Schema, shard: &str, block_bytes: usize) -> Result<Self> {
        let error = |reason: String| Error::Schema {
            shard: shard.to_owned(),
            column: "tokens".to_owned(),
            reason,
        };
        let json = schema.metadata().get(TOKENIZER_KEY).ok_or_else(|| {
            error(format!(
                "the file's metadata has no `{TOKENIZER_KEY}`: nobody can tell what the ids mean; \
                 write the set with `shards write`"
            ))
        })?;
        let info: Self = serde_json::from_str(json)
            .map_err(|found| error(format!("the metadata `{TOKENIZER_KEY}`: {found}")))?;
        if !matches!(info.width_bytes, 2 | 4) || info.width_bytes * info.block_tokens != block_bytes
        {
            return Err(error(format!(
                "blocks of {block_bytes} bytes do not hold {} tokens of {} bytes, as the metadata \
                 `{TOKENIZER_KEY}` says",
                info.block_tokens, info.width_bytes
            )));
        }
        Ok(info)
    }
}
