//! Texts and blocks of ids become the tokens of a sample.

use std::time::Instant;

use super::{Sample, SampleMedia, Task, Window, Work};
use crate::rng::{Purpose, Rng};
use crate::shard::{Vocabulary, own_tokens};
use crate::tokenize::Tokenizer;
use crate::{Result, SampleError, decode};

/// Special tokens around one text, and around a pair.
const TEXT_SPECIALS: usize = 2;
const PAIR_SPECIALS: usize = 4;
/// Memory that tokenising takes for each byte of text: ids, offsets and strings of the tokens.
const TOKENIZER_BYTES: u64 = 64;

impl Work {
    /// `<s> A </s>`, or `<s> A </s> </s> B </s>` of a pair. One text too long is cut to a window at
    /// a random place, in evaluation to its beginning; of a pair the longer loses its end.
    pub(super) fn text(
        &self,
        task: &Task,
        tokenizer: &Tokenizer,
        max_tokens: usize,
    ) -> Result<Result<Sample, SampleError>> {
        let row = task.slot.row_in_group as usize;
        let texts = [task.rows.bytes(row), task.rows.second(row)];
        let n_bytes: usize = texts.iter().flatten().map(|text| text.len()).sum();
        let _taken = self.share.take(n_bytes as u64 * TOKENIZER_BYTES, || {
            format!("tokenising the {n_bytes} bytes in {}", self.place(task))
        })?;
        let start = Instant::now();
        let tokens = self.tokens(task, tokenizer, max_tokens);
        self.recorder
            .decode
            .record(start.elapsed(), tokens.is_err());
        Ok(tokens)
    }

    fn tokens(
        &self,
        task: &Task,
        tokenizer: &Tokenizer,
        max_tokens: usize,
    ) -> Result<Sample, SampleError> {
        let (text, beside) = self.check(task)?;
        let encode = |bytes: &[u8]| -> Result<Vec<u32>, SampleError> {
            if bytes.len() as u64 > self.limits.bytes {
                return Err(SampleError::Limit {
                    what: "number of bytes",
                    found: bytes.len() as u64,
                    limit: self.limits.bytes,
                });
            }
            let mut ids = Vec::new();
            tokenizer.encode(decode::text(bytes)?, &mut ids)?;
            Ok(ids)
        };
        let mut first = encode(text)?;
        let second = task.rows.second(task.slot.row_in_group as usize);
        let mut second = second.map(encode).transpose()?;
        let specials = tokenizer.specials();
        match &mut second {
            None => {
                let place = if self.evaluate {
                    0
                } else {
                    Rng::for_sample(self.key(task), Purpose::Crop, 0).next_u64()
                };
                first = Window::new(first, max_tokens - TEXT_SPECIALS, place).values;
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
        Ok(Sample {
            media: SampleMedia::Tokens(tokens),
            masks: Vec::new(),
            beside,
        })
    }

    /// The ids of a block, without its padding.
    pub(super) fn block(&self, task: &Task, info: &Vocabulary) -> Result<Sample, SampleError> {
        let start = Instant::now();
        let tokens = self.own_ids(task, info);
        self.recorder
            .decode
            .record(start.elapsed(), tokens.is_err());
        tokens
    }

    fn own_ids(&self, task: &Task, info: &Vocabulary) -> Result<Sample, SampleError> {
        let (bytes, beside) = self.check(task)?;
        let n_tokens = task.rows.n_tokens(task.slot.row_in_group as usize);
        Ok(Sample {
            media: SampleMedia::Tokens(own_tokens(info, bytes, n_tokens)?),
            masks: Vec::new(),
            beside,
        })
    }
}
