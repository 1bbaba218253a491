//! data2vec 2.0's mask for audio: blocks of positions, then single ones to an exact count.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::{self, failed};
use super::draws::{flip_random, n_masked};
use crate::rng::Rng;

/// The table `[data.mask.blocks]`: blocks of positions are masked, to an exact count.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline, description = "")]
pub struct Blocks {
    /// Masks per sample, M.
    pub n_masks: usize,
    /// Share of positions masked, R.
    pub prob: f64,
    /// Added to the masked share before blocks are counted, A.
    pub prob_adjust: f64,
    /// Positions of a block, b.
    pub block: usize,
}

impl Blocks {
    /// Returns the invalid keys, as `key: problem`.
    pub(super) fn check(&self) -> Vec<String> {
        failed([
            check::n_masks(self.n_masks),
            check::share("prob", self.prob),
            check::adjust("prob_adjust", self.prob_adjust),
            (self.block > 0, "block: must be at least 1".to_owned()),
        ])
    }

    /// Returns how many of `n_positions` a mask leaves visible.
    pub(super) fn n_kept(&self, n_positions: usize) -> usize {
        n_positions - self.n_masked(n_positions)
    }

    /// Returns how many of `n_positions` are masked: the floor in double precision, as in the
    /// reference.
    fn n_masked(&self, n_positions: usize) -> usize {
        (n_positions as f64 * self.prob) as usize
    }

    /// Returns how many blocks are masked before the count is made exact.
    fn n_centres(&self, n_positions: usize) -> usize {
        let share_per_block = (self.prob + self.prob_adjust) / self.block as f64;
        (n_positions as f64 * share_per_block) as usize
    }

    /// Masks `block` positions around each of some random positions, cut off at the ends, then masks
    /// or unmasks random single positions to the exact count; `mask` is `[P]`, 1 = masked.
    pub fn draw(&self, rng: &mut Rng, mask: &mut [u8]) {
        mask.fill(0);
        for _ in 0..self.n_centres(mask.len()) {
            let centre = rng.below(mask.len()); // With replacement, the ends included.
            let from = centre.saturating_sub(self.block / 2);
            let end = (centre + self.block - self.block / 2).min(mask.len());
            mask[from..end].fill(1);
        }
        let (masked, wanted) = (n_masked(mask), self.n_masked(mask.len()));
        if masked > wanted {
            flip_random(mask, 1, masked - wanted, rng);
        } else {
            flip_random(mask, 0, wanted - masked, rng);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_match_the_published_recipes() {
        let counts = |n_positions, prob, prob_adjust| {
            let mask = Blocks {
                n_masks: 1,
                prob,
                prob_adjust,
                block: 5,
            };
            (mask.n_masked(n_positions), mask.n_centres(n_positions))
        };
        assert_eq!(counts(499, 0.5, 0.05), (249, 54)); // Base, ten seconds.
        assert_eq!(counts(312, 0.55, 0.1), (171, 40)); // Large.
        assert_eq!(counts(1, 0.5, 0.05), (0, 0));
    }
}
