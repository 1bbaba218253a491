//! Tokenises the text of a row, or reads its block of token ids.

use std::time::Instant;

use super::{RowMetadata, Sample, SampleMedia, SequenceCrop, Task, Worker};
use crate::rng::{Purpose, Rng};
use crate::shard::{Vocabulary, unpadded_tokens};
use crate::tokenize::Tokenizer;
use crate::{Result, SampleError, decode};

/// Number of special tokens around one text.
const TEXT_SPECIALS: usize = 2;
/// Number of special tokens around and between the texts of a pair.
const PAIR_SPECIALS: usize = 4;

/// A text, and the second text of a pair.
type Texts<'a> = [Option<&'a [u8]>; 2];

impl Worker {
    /// Returns `<s> A </s>`, or `<s> A </s> </s> B </s>` for a pair. A text that is too long is cropped
    /// at a random place, in evaluation to its beginning. If a pair is too long, its longer text loses
    /// tokens at the end.
    pub(super) fn text(
        &self,
        task: &Task,
        tokenizer: &Tokenizer,
        max_tokens: usize,
    ) -> Result<Result<Sample, SampleError>> {
        let start = Instant::now();
        let (texts, metadata) = match self.texts(task) {
            Ok(checked) => checked,
            Err(bad) => {
                self.recorder.decode.record(start.elapsed(), true);
                return Ok(Err(bad));
            }
        };
        let checking = start.elapsed();
        let n_bytes: usize = texts.iter().flatten().map(|text| text.len()).sum();
        let _taken = self
            .share
            .take(Tokenizer::scratch_bytes(n_bytes as u64), || {
                format!("tokenising the {n_bytes} bytes in {}", self.place(task))
            })?;
        let start = Instant::now();
        let tokens = self.tokenize(task, texts, tokenizer, max_tokens);
        self.recorder
            .decode
            .record(checking + start.elapsed(), tokens.is_err());
        Ok(tokens.map(|tokens| Sample {
            media: SampleMedia::Tokens(tokens),
            masks: Vec::new(),
            metadata,
        }))
    }

    /// Returns a text, and the second text of a pair, after checking their hash and size.
    fn texts<'a>(&self, task: &'a Task) -> Result<(Texts<'a>, RowMetadata), SampleError> {
        let (text, metadata) = self.check(task)?;
        let texts = [
            Some(text),
            task.rows.second(task.slot.row_in_group as usize),
        ];
        let n_bytes: u64 = texts.iter().flatten().map(|text| text.len() as u64).sum();
        if n_bytes > self.limits.bytes {
            return Err(SampleError::Limit {
                what: "number of bytes",
                found: n_bytes,
                limit: self.limits.bytes,
            });
        }
        Ok((texts, metadata))
    }

    fn tokenize(
        &self,
        task: &Task,
        [text, second]: Texts<'_>,
        tokenizer: &Tokenizer,
        max_tokens: usize,
    ) -> Result<Vec<u32>, SampleError> {
        let encode = |bytes: &[u8]| -> Result<Vec<u32>, SampleError> {
            let mut ids = Vec::new();
            tokenizer.encode(decode::text(bytes)?, &mut ids)?;
            Ok(ids)
        };
        let mut first = encode(text.unwrap_or_default())?;
        let mut second = second.map(encode).transpose()?;
        let specials = tokenizer.special_tokens();
        match &mut second {
            None => {
                let place = if self.evaluate {
                    0
                } else {
                    Rng::for_sample(self.key(task), Purpose::Crop, 0).next_u64()
                };
                first = SequenceCrop::new(first, max_tokens - TEXT_SPECIALS, place).values;
            }
            Some(second) => {
                let room = max_tokens.saturating_sub(PAIR_SPECIALS);
                while first.len() + second.len() > room {
                    if first.len() >= second.len() {
                        first.pop();
                    } else {
                        second.pop();
                    }
                }
            }
        }
        let mut tokens = vec![specials.bos];
        tokens.extend(first);
        tokens.push(specials.eos);
        if let Some(second) = second {
            tokens.push(specials.eos);
            tokens.extend(second);
            tokens.push(specials.eos);
        }
        Ok(tokens)
    }

    /// Returns the token ids of a block, without its padding.
    pub(super) fn tokens(&self, task: &Task, info: &Vocabulary) -> Result<Sample, SampleError> {
        let start = Instant::now();
        let tokens = self.block_tokens(task, info);
        self.recorder
            .decode
            .record(start.elapsed(), tokens.is_err());
        tokens
    }

    fn block_tokens(&self, task: &Task, info: &Vocabulary) -> Result<Sample, SampleError> {
        let (bytes, metadata) = self.check(task)?;
        let n_tokens = task.rows.n_tokens(task.slot.row_in_group as usize);
        Ok(Sample {
            media: SampleMedia::Tokens(unpadded_tokens(info, bytes, n_tokens)?),
            masks: Vec::new(),
            metadata,
        })
    }
}
