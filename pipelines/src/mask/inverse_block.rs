//! data2vec 2.0's mask for images: blocks are kept, the other patches are masked.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::{self, failed};
use super::draws::{flip_random, n_masked};
use crate::rng::Rng;

/// The table `[data.mask.inverse_block]`: blocks of patches are kept.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline, description = "")]
pub struct InverseBlock {
    /// Patches per side.
    pub grid: usize,
    /// Masks per sample, M.
    pub n_masks: usize,
    /// Share of patches masked, R.
    pub mask_prob: f64,
    /// Added to the kept share before blocks are counted, A.
    pub mask_prob_adjust: f64,
    /// Side of a kept block, in patches, b.
    pub block: usize,
}

impl InverseBlock {
    /// Returns the invalid keys, as `key: problem`.
    pub(super) fn check(&self) -> Vec<String> {
        let (grid, block) = (self.grid, self.block);
        if let Some(problems) = check::grid(grid) {
            return problems;
        }
        failed([
            check::n_masks(self.n_masks),
            check::share("mask_prob", self.mask_prob),
            check::adjust("mask_prob_adjust", self.mask_prob_adjust),
            (
                self.n_kept() > 0,
                format!(
                    "mask_prob: {} leaves none of {} patches",
                    self.mask_prob,
                    grid * grid
                ),
            ),
            (
                block > 0 && block <= grid,
                format!("block: must be in 1..={grid}, is {block}"),
            ),
        ])
    }

    /// Changes the grid and scales the blocks with it.
    pub(super) fn fit_grid(&mut self, grid: usize) {
        self.block = (self.block * grid / self.grid).max(1);
        self.grid = grid;
    }

    /// Returns how many patches a mask keeps: the same number for every mask of a config, so that
    /// the kept tokens of a batch form one tensor.
    ///
    /// The reference code takes the floor of this product in double precision, where a tenth of
    /// 100 patches is 9: 100 · (1 − 0.9) is just below 10.
    pub(super) fn n_kept(&self) -> usize {
        ((self.grid * self.grid) as f64 * (1.0 - self.mask_prob)) as usize
    }

    /// Returns how many blocks are kept before the count is made exact.
    fn n_centres(&self) -> usize {
        let area = (self.block * self.block) as f64;
        let share_per_block = ((1.0 - self.mask_prob) + self.mask_prob_adjust) / area;
        ((self.grid * self.grid) as f64 * share_per_block) as usize
    }

    /// Keeps squares of side `block` around random patches, cut off at the border, then drops or
    /// adds random single patches to the exact count; `mask` is `[grid, grid]`, 1 = masked.
    pub fn draw(&self, rng: &mut Rng, mask: &mut [u8]) {
        let &Self { grid, block, .. } = self;
        mask.fill(1);
        for _ in 0..self.n_centres() {
            // Centres are drawn with replacement, border included.
            let (row, column) = (rng.below(grid), rng.below(grid));
            let span = |centre: usize| {
                let from = centre.saturating_sub(block / 2);
                from..(centre + block - block / 2).min(grid)
            };
            for row in span(row) {
                mask[row * grid..][span(column)].fill(0);
            }
        }
        let (kept, n_kept) = (mask.len() - n_masked(mask), self.n_kept());
        if kept > n_kept {
            flip_random(mask, 0, kept - n_kept, rng);
        } else {
            flip_random(mask, 1, n_kept - kept, rng);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_match_the_published_recipes() {
        let counts = |grid, mask_prob, mask_prob_adjust| {
            let mask = InverseBlock {
                grid,
                n_masks: 1,
                mask_prob,
                mask_prob_adjust,
                block: 3,
            };
            (mask.n_kept(), mask.n_centres())
        };
        assert_eq!(counts(14, 0.8, 0.07), (39, 5)); // ViT-B
        assert_eq!(counts(14, 0.75, 0.1), (49, 7)); // ViT-L
        assert_eq!(counts(16, 0.75, 0.1), (64, 9)); // ViT-H/14
        let (n_kept, _) = counts(10, 0.9, 0.0);
        assert_eq!(n_kept, 9, "the floor is taken in double precision");
    }
}
