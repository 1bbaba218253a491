//! data2vec 2.0's mask for text: random single tokens to an exact count.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::{self, failed};
use super::draws::flip_random;
use crate::rng::Rng;

/// The table `[data.mask.tokens]`: single tokens are masked, to an exact count.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline, description = "")]
pub struct Tokens {
    /// Masks per sample, M.
    pub n_masks: usize,
    /// Share of tokens masked, R.
    pub prob: f64,
}

impl Tokens {
    /// Returns the invalid keys, as `key: problem`.
    pub(super) fn check(&self) -> Vec<String> {
        failed([
            check::n_masks(self.n_masks),
            check::share("prob", self.prob),
        ])
    }

    /// Returns how many of `n_positions` tokens a mask keeps: the floor in double precision, as in
    /// the reference.
    pub(super) fn n_kept(&self, n_positions: usize) -> usize {
        (n_positions as f64 * (1.0 - self.prob)) as usize
    }

    /// Masks all but an exact number of random tokens, special tokens included; `mask` is `[P]`,
    /// 1 = masked.
    pub fn draw(&self, rng: &mut Rng, mask: &mut [u8]) {
        mask.fill(1);
        flip_random(mask, 1, self.n_kept(mask.len()), rng);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_match_the_published_recipes() {
        let n_kept = |n_positions, prob| Tokens { n_masks: 1, prob }.n_kept(n_positions);
        assert_eq!(n_kept(512, 0.48), 266); // Base.
        assert_eq!(n_kept(512, 0.5), 256); // Large.
        assert_eq!(n_kept(50, 0.5), 25);
    }
}
