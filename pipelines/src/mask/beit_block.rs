//! `BEiT`'s block-wise mask, as data2vec 1.0 uses it for images.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::{self, failed};
use super::draws::n_masked;
use crate::rng::Rng;

/// Attempts to draw a block that fits before the mask is left as it is.
const N_TRIES: usize = 10;

/// The table `[data.mask.beit_block]`: blocks of patches are masked.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline, description = "")]
pub struct BeitBlock {
    /// Patches per side.
    pub grid: usize,
    /// Patches to mask; a mask may end up a few short.
    pub n_masked: usize,
    /// Smallest block, in patches.
    pub min_area: usize,
    /// Least height / width of a block; the greatest is its inverse.
    pub min_aspect: f64,
}

impl BeitBlock {
    /// Returns the invalid keys, as `key: problem`.
    pub(super) fn check(&self) -> Vec<String> {
        let &Self {
            grid,
            n_masked,
            min_area,
            min_aspect,
        } = self;
        if let Some(problems) = check::grid(grid) {
            return problems;
        }
        failed([
            (
                0 < n_masked && n_masked < grid * grid,
                format!("n_masked: {n_masked} of {} patches", grid * grid),
            ),
            (
                min_area > 0 && min_area <= n_masked,
                format!("min_area: must be in 1..={n_masked}, is {min_area}"),
            ),
            (
                0.0 < min_aspect && min_aspect <= 1.0,
                format!("min_aspect: must be in (0, 1], is {min_aspect}"),
            ),
        ])
    }

    /// Changes the grid and keeps the share of masked patches.
    pub(super) fn fit_grid(&mut self, grid: usize) {
        self.n_masked = (self.n_masked * grid * grid / (self.grid * self.grid)).max(1);
        self.min_area = self.min_area.min(self.n_masked);
        self.grid = grid;
    }

    /// Masks blocks of `min_area` patches or more, with height / width between `min_aspect` and its
    /// inverse, until `n_masked` patches are masked or no block fits; `mask` is `[grid, grid]`,
    /// 1 = masked.
    ///
    /// A mask may end up short of `n_masked`: with `BEiT`'s settings 70 % reach it, and the mean is
    /// half a patch below it.
    pub fn draw(&self, rng: &mut Rng, mask: &mut [u8]) {
        mask.fill(0);
        let mut left = self.n_masked;
        while left > 0 {
            let newly_masked = self.mask_one_block(left, rng, mask);
            if newly_masked == 0 {
                return;
            }
            left -= newly_masked;
        }
    }

    /// Masks one block that adds at most `left` patches; returns how many it added, 0 if none fitted.
    fn mask_one_block(&self, left: usize, rng: &mut Rng, mask: &mut [u8]) -> usize {
        let grid = self.grid;
        let widest = -self.min_aspect.ln();
        for _ in 0..N_TRIES {
            // Near the end `left` is below `min_area`: the areas are then between the two, and a
            // block still fits where it overlaps patches that are masked already.
            let area = rng.range(self.min_area as f64, left as f64);
            let aspect = rng.range(-widest, widest).exp();
            let height = (area * aspect).sqrt().round_ties_even() as usize;
            let width = (area / aspect).sqrt().round_ties_even() as usize;
            if height >= grid || width >= grid {
                continue;
            }
            let top = rng.below(grid - height + 1);
            let first = rng.below(grid - width + 1);
            let block =
                || (top..top + height).map(|row| row * grid + first..row * grid + first + width);
            let already_masked: usize = block().map(|row| n_masked(&mask[row])).sum();
            let newly_masked = height * width - already_masked;
            if (1..=left).contains(&newly_masked) {
                block().for_each(|row| mask[row].fill(1));
                return newly_masked;
            }
        }
        0
    }
}
