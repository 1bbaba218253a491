//! Spans of tokens, as the released recipe of data2vec 1.0 masks text.

use super::draws::{distinct, rounded_at_random};
use crate::rng::Rng;

/// Masks about `prob · P / length` spans of `length` tokens, which may overlap; `mask` is `[P]`,
/// 1 = masked, P the tokens that the sample has (specials included, no padding).
///
/// Spans begin anywhere, at distinct tokens, and are cut off at the end. A short sample may so end
/// up without a masked token, or without a visible one, as in the reference.
pub fn draw(prob: f64, length: usize, rng: &mut Rng, mask: &mut [u8]) {
    mask.fill(0);
    let n_positions = mask.len();
    let n_spans = rounded_at_random(prob * n_positions as f64 / length as f64, rng);
    for start in distinct(n_spans, n_positions, rng) {
        mask[start..(start + length).min(n_positions)].fill(1);
    }
}
