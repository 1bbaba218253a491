//! The special tokens of a vocabulary.

use std::ops::Range;

use understudy_schemas::Vocabulary;

/// The ids of a vocabulary that have a meaning of their own, and its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpecialTokens {
    /// `<s>`, before a text; classifiers read the output at its position.
    pub bos: u32,
    /// `</s>`, after a text and between two.
    pub eos: u32,
    /// `<pad>`, after the end of a text in a row of a batch.
    pub pad: u32,
    /// `<unk>`, which byte-level BPE never returns.
    pub unk: u32,
    /// `<mask>`, in place of a token to predict.
    pub mask: u32,
    /// Number of ids: all ids are below this.
    pub vocab_size: u32,
}

impl SpecialTokens {
    /// Returns the ids that can replace a masked token: the longest range without `<s>`, `</s>`,
    /// `<pad>` and `<unk>`. It may contain `<mask>`.
    pub fn ordinary(&self) -> Range<u32> {
        let mut taken = [self.bos, self.eos, self.pad, self.unk];
        taken.sort_unstable();
        let starts = std::iter::once(0).chain(taken.iter().map(|&id| id + 1));
        let ends = taken.iter().copied().chain([self.vocab_size]);
        let gaps = starts.zip(ends).map(|(start, end)| start..end.max(start));
        gaps.max_by_key(Range::len).unwrap_or(0..0)
    }
}

/// The special tokens of a dataset of tokens, as its shards store them.
impl From<&Vocabulary> for SpecialTokens {
    fn from(stored: &Vocabulary) -> Self {
        Self {
            bos: stored.bos,
            eos: stored.eos,
            pad: stored.pad,
            unk: stored.unk,
            mask: stored.mask,
            vocab_size: stored.vocab_size,
        }
    }
}
