//! Tokenizer: text becomes ids by byte-level BPE as in GPT-2, with the ids of `RoBERTa` and fairseq.
//!
//! Text is not changed: nothing is stripped or normalised, no special token is put around it, and
//! `<mask>` written in a text is six ordinary characters, as in fairseq.

mod files;
mod special_tokens;
#[cfg(test)]
mod tests;

use std::path::Path;

use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use crate::error::{Result, SampleError};
use files::Files;
pub use special_tokens::SpecialTokens;

/// Memory of encoding per byte of text: ids, offsets and strings of the tokens.
const SCRATCH_BYTES: u64 = 64;

/// A vocabulary with its byte-level BPE.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// Our id for each id of `inner`; `None` if they are the same.
    renumbered: Option<Vec<u32>>,
    special_tokens: SpecialTokens,
    sha256: String,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`, or a folder with one of these, in this order of preference:
    ///
    /// - `tokenizer.json`: Hugging Face's own format;
    /// - `vocab.json` and `merges.txt`: the files of `RoBERTa`;
    /// - `encoder.json`, `vocab.bpe` and `dict.txt`: GPT-2's files, and fairseq's numbers for them.
    ///
    /// The vocabulary must have `<s>`, `<pad>`, `</s>`, `<unk>` and `<mask>` (fairseq's has them
    /// implicitly).
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) if a file cannot be read, [`Error::Source`](crate::Error::Source)
    /// if there is no vocabulary or it is invalid.
    pub fn open(path: &Path) -> Result<Self> {
        files::read(path)?.tokenizer(path)
    }

    /// Appends the ids of `text`, without special tokens.
    ///
    /// # Errors
    ///
    /// [`SampleError::Decode`] if a `tokenizer.json` cannot encode the text, for example because its
    /// vocabulary has no token for some byte.
    pub fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), SampleError> {
        let encoding = self.inner.encode_fast(text, false);
        let encoding = encoding.map_err(|error| SampleError::Decode(error.to_string()))?;
        match &self.renumbered {
            None => ids.extend_from_slice(encoding.get_ids()),
            Some(numbers) => {
                ids.extend(encoding.get_ids().iter().map(|&id| numbers[id as usize]));
            }
        }
        Ok(())
    }

    /// Returns the memory of encoding `n_bytes` of text, in bytes.
    pub fn scratch_bytes(n_bytes: u64) -> u64 {
        n_bytes * SCRATCH_BYTES
    }

    /// Returns the special tokens and the size of the vocabulary.
    pub fn special_tokens(&self) -> SpecialTokens {
        self.special_tokens
    }

    /// Returns the SHA-256, in hex, of the vocabulary's files one after another, in the order in
    /// which [`Tokenizer::open`] lists them.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }
}

impl Files {
    /// Builds the tokenizer; `path` is for error messages.
    fn tokenizer(self, path: &Path) -> Result<Tokenizer> {
        let fault = |reason: String| files::fault(path, reason);
        let sha256 = self.sha256();
        let (mut inner, renumbered, special_tokens) = match self {
            Self::HuggingFace { json } => {
                let inner = tokenizers::Tokenizer::from_bytes(json);
                let inner = inner.map_err(|error| fault(error.to_string()))?;
                let special_tokens = named_special_tokens(&inner).map_err(fault)?;
                (inner, None, special_tokens)
            }
            Self::Roberta { vocab, merges } => {
                let inner = byte_level(&vocab, &merges).map_err(fault)?;
                let special_tokens = named_special_tokens(&inner).map_err(fault)?;
                (inner, None, special_tokens)
            }
            Self::Fairseq {
                vocab,
                merges,
                dict,
            } => {
                let inner = byte_level(&vocab, &merges).map_err(fault)?;
                let n_ids = inner.get_vocab_size(false);
                let (numbers, vocab_size) = files::fairseq_numbers(&dict, n_ids).map_err(fault)?;
                let special_tokens = SpecialTokens {
                    bos: 0,
                    pad: 1,
                    eos: 2,
                    unk: 3,
                    mask: vocab_size - 1,
                    vocab_size,
                };
                (inner, Some(numbers), special_tokens)
            }
        };
        // A saved tokenizer may also pad and truncate, and encode special tokens: not here.
        inner.with_padding(None);
        inner
            .with_truncation(None)
            .map_err(|error| fault(error.to_string()))?;
        inner.set_encode_special_tokens(true);
        Ok(Tokenizer {
            inner,
            renumbered,
            special_tokens,
            sha256,
        })
    }
}

/// Builds GPT-2's tokenizer: words by its pattern, bytes as characters, no space put before a text.
fn byte_level(vocab: &[u8], merges: &[u8]) -> Result<tokenizers::Tokenizer, String> {
    let vocab = files::vocab(vocab)?;
    let merges = files::merges(merges)?;
    let model = BPE::builder().vocab_and_merges(vocab, merges).build();
    let model = model.map_err(|error| format!("vocabulary and merges do not match: {error}"))?;
    let mut inner = tokenizers::Tokenizer::new(model);
    inner.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    Ok(inner)
}

/// Looks the special tokens up by name.
fn named_special_tokens(inner: &tokenizers::Tokenizer) -> Result<SpecialTokens, String> {
    let id = |name: &str| {
        inner.token_to_id(name).ok_or_else(|| {
            format!(
                "the vocabulary has no {name}\nhint: use RoBERTa's vocabulary, or one with the \
                     same special tokens"
            )
        })
    };
    let largest = inner.get_vocab(true).into_values().max();
    Ok(SpecialTokens {
        bos: id("<s>")?,
        eos: id("</s>")?,
        pad: id("<pad>")?,
        unk: id("<unk>")?,
        mask: id("<mask>")?,
        vocab_size: largest.map_or(0, |id| id + 1),
    })
}
