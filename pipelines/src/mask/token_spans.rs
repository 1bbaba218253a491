//! Spans of tokens, as the released recipe of data2vec 1.0 masks text.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::{self, failed};
use super::draws::{distinct, rounded_at_random};
use crate::rng::Rng;
use crate::tokenize::SpecialTokens;

/// The table `[data.mask.token_spans]`: spans of tokens become `<mask>`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline, description = "")]
pub struct TokenSpans {
    /// Share of tokens that spans would mask if none overlapped.
    pub prob: f64,
    /// Tokens of a span.
    pub length: usize,
}

impl TokenSpans {
    /// Returns the invalid keys, as `key: problem`.
    pub(super) fn check(&self) -> Vec<String> {
        failed([
            check::share("prob", self.prob),
            (self.length > 0, "length: must be at least 1".to_owned()),
        ])
    }

    /// Masks spans and replaces their `tokens` `[P]` by `<mask>`; `mask` is `[P]`, 1 = masked.
    pub fn draw(
        &self,
        special: &SpecialTokens,
        rng: &mut Rng,
        tokens: &mut [u32],
        mask: &mut [u8],
    ) {
        choose(self.prob, self.length, rng, mask);
        for (token, _) in tokens.iter_mut().zip(mask).filter(|(_, mask)| **mask == 1) {
            *token = special.mask;
        }
    }
}

/// Masks about `prob · P / length` spans of `length` tokens, which may overlap; `mask` is `[P]`,
/// 1 = masked, P the number of the sample's tokens (special tokens included, no padding).
///
/// Spans start at distinct tokens and are cut off at the end. A short sample may end up without a
/// masked token, or without a visible one, as in the reference.
pub(super) fn choose(prob: f64, length: usize, rng: &mut Rng, mask: &mut [u8]) {
    mask.fill(0);
    let n_positions = mask.len();
    let n_spans = rounded_at_random(prob * n_positions as f64 / length as f64, rng);
    for start in distinct(n_spans, n_positions, rng) {
        mask[start..(start + length).min(n_positions)].fill(1);
    }
}
