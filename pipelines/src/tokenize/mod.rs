//! Text becomes ids: byte-level BPE as GPT-2 defined it, with the ids of `RoBERTa` and fairseq.
//!
//! Text is taken as it stands: nothing is stripped or normalised, no special token is put around
//! it, and `<mask>` written in a text is six ordinary characters, as fairseq has it.

mod files;
#[cfg(test)]
mod golden;

use std::path::Path;

use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use crate::error::{Result, SampleError};
use files::Files;

/// A vocabulary, and how text is cut into it.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// Our id for each of the vocabulary's; `None` where they are the same.
    renumbered: Option<Vec<u32>>,
    specials: Specials,
    sha256: String,
}

/// The ids with a meaning of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Specials {
    /// `<s>`, before a text; also what a classifier reads.
    pub bos: u32,
    /// `</s>`, behind a text and between two.
    pub eos: u32,
    /// `<pad>`, where a row of a batch has ended.
    pub pad: u32,
    /// `<unk>`, which byte-level BPE never gives.
    pub unk: u32,
    /// `<mask>`, which stands for a token to predict.
    pub mask: u32,
    /// Ids are below this.
    pub vocab_size: u32,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`, or a folder with one of these, looked for in this order:
    ///
    /// - `tokenizer.json`: Hugging Face's own form;
    /// - `vocab.json` and `merges.txt`: those of `RoBERTa`;
    /// - `encoder.json`, `vocab.bpe` and `dict.txt`: GPT-2's, and fairseq's numbers for it.
    ///
    /// All must name `<s>`, `<pad>`, `</s>`, `<unk>` and `<mask>` (fairseq's do without saying so).
    pub fn open(path: &Path) -> Result<Self> {
        files::read(path)?.tokenizer(path)
    }

    /// Appends the ids of `text`, no specials added.
    ///
    /// An error is a fault of a `tokenizer.json` that cannot serve this text, such as a vocabulary
    /// without a token for some byte.
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

    /// The special ids and the size of the vocabulary.
    pub fn specials(&self) -> Specials {
        self.specials
    }

    /// SHA-256, in hex, of the vocabulary's files one after another, in the order that
    /// [`Tokenizer::open`] names them in.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }
}

impl Files {
    fn tokenizer(self, path: &Path) -> Result<Tokenizer> {
        let fault = |reason: String| files::fault(path, reason);
        let sha256 = self.sha256();
        let (mut inner, renumbered, specials) = match self {
            Self::HuggingFace { json } => {
                let inner = tokenizers::Tokenizer::from_bytes(json);
                let inner = inner.map_err(|error| fault(error.to_string()))?;
                let specials = named_specials(&inner).map_err(fault)?;
                (inner, None, specials)
            }
            Self::Roberta { vocab, merges } => {
                let inner = byte_level(&vocab, &merges).map_err(fault)?;
                let specials = named_specials(&inner).map_err(fault)?;
                (inner, None, specials)
            }
            Self::Fairseq {
                vocab,
                merges,
                dict,
            } => {
                let inner = byte_level(&vocab, &merges).map_err(fault)?;
                let n_ids = inner.get_vocab_size(false);
                let (numbers, vocab_size) = files::fairseq_numbers(&dict, n_ids).map_err(fault)?;
                let specials = Specials {
                    bos: 0,
                    pad: 1,
                    eos: 2,
                    unk: 3,
                    mask: vocab_size - 1,
                    vocab_size,
                };
                (inner, Some(numbers), specials)
            }
        };
        // What a saved tokenizer may do besides cutting, and must not do here.
        inner.with_padding(None);
        inner
            .with_truncation(None)
            .map_err(|error| fault(error.to_string()))?;
        inner.set_encode_special_tokens(true);
        Ok(Tokenizer {
            inner,
            renumbered,
            specials,
            sha256,
        })
    }
}

/// GPT-2's way with a vocabulary: words by its pattern, bytes as characters, no space put before.
fn byte_level(vocab: &[u8], merges: &[u8]) -> Result<tokenizers::Tokenizer, String> {
    let vocab = files::vocab(vocab)?;
    let merges = files::merges(merges)?;
    let model = BPE::builder().vocab_and_merges(vocab, merges).build();
    let model = model.map_err(|error| format!("vocabulary and merges do not fit: {error}"))?;
    let mut inner = tokenizers::Tokenizer::new(model);
    inner.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    Ok(inner)
}

fn named_specials(inner: &tokenizers::Tokenizer) -> Result<Specials, String> {
    let id = |name: &str| {
        inner
            .token_to_id(name)
            .ok_or_else(|| format!("the vocabulary has no {name}; it must be RoBERTa's or like it"))
    };
    let largest = inner.get_vocab(true).into_values().max();
    Ok(Specials {
        bos: id("<s>")?,
        eos: id("</s>")?,
        pad: id("<pad>")?,
        unk: id("<unk>")?,
        mask: id("<mask>")?,
        vocab_size: largest.map_or(0, |id| id + 1),
    })
}
