//! Texts and blocks of ids become the tokens of a sample.

use std::time::Instant;

use super::{Beside, Sample, SampleMedia, Task, Window, Work};
use crate::rng::{Purpose, Rng};
use crate::shard::{Vocabulary, unpadded_tokens};
use crate::tokenize::Tokenizer;
use crate::{Result, SampleError, decode};

/// Special tokens around one text, and around a pair.
const TEXT_SPECIALS: usize = 2;
const PAIR_SPECIALS: usize = 4;

/// A text, and the second of a pair.
type Texts<'a> = [Option<&'a [u8]>; 2];

impl Work {
    /// `<s> A </s>`, or `<s> A </s> </s> B </s>` of a pair. One text too long is cut to a window at
    /// a random place, in evaluation to its beginning; of a pair the longer loses its end.
    pub(super) fn text(
        &self,
        task: &Task,
        tokenizer: &Tokenizer,
        max_tokens: usize,
    ) -> Result<Result<Sample, SampleError>> {
        let start = Instant::now();
        let (texts, beside) = match self.texts(task) {
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
        let tokens = self.tokens(task, texts, tokenizer, max_tokens);
        self.recorder
            .decode
            .record(checking + start.elapsed(), tokens.is_err());
        Ok(tokens.map(|tokens| Sample {
            media: SampleMedia::Tokens(tokens),
            masks: Vec::new(),
            beside,
        }))
    }

    /// A text and the second of a pair, as the writer saw them and within the limit.
    fn texts<'a>(&self, task: &'a Task) -> Result<(Texts<'a>, Beside), SampleError> {
        let (text, beside) = self.check(task)?;
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
        Ok((texts, beside))
    }

    fn tokens(
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
        Ok(tokens)
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
            media: SampleMedia::Tokens(unpadded_tokens(info, bytes, n_tokens)?),
            masks: Vec::new(),
            beside,
        })
    }
}
