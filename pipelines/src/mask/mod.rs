//! Which patches the student does not see.
//!
//! Masks are drawn here, on the CPU and per sample, so that they depend on the sample's key alone
//! and not on the batch or the device.

mod beit_block;
pub mod bert;
pub mod blocks;
mod draws;
mod inverse_block;
pub mod random;
pub mod spans;
#[cfg(test)]
mod statistics;
pub mod text_spans;

use crate::config::MaskConfig;
use crate::rng::{Purpose, Rng, SampleKey};

impl MaskConfig {
    /// Patches of a picture: rows and columns of a mask, multiplied.
    pub fn n_patches(&self) -> usize {
        let (Self::BeitBlock { grid, .. } | Self::InverseBlock { grid, .. }) = *self;
        grid * grid
    }

    /// Masks per sample, M.
    pub fn n_masks(&self) -> usize {
        match *self {
            Self::BeitBlock { .. } => 1,
            Self::InverseBlock { n_masks, .. } => n_masks,
        }
    }

    /// Patches that every mask leaves visible; `None` where the count differs from mask to mask.
    pub fn n_kept(&self) -> Option<usize> {
        match *self {
            Self::BeitBlock { .. } => None,
            Self::InverseBlock {
                grid, mask_prob, ..
            } => Some(inverse_block::n_kept(grid, mask_prob)),
        }
    }

    /// Draws the masks of one sample into `out`: `[n_masks, n_patches]`, row-major, 1 = masked.
    ///
    /// # Panics
    /// If `out` has another length.
    pub fn draw(&self, key: SampleKey, out: &mut [u8]) {
        assert_eq!(out.len(), self.n_masks() * self.n_patches());
        for (index, mask) in out.chunks_exact_mut(self.n_patches()).enumerate() {
            let mut rng = Rng::for_sample(key, Purpose::Mask, index as u32);
            match *self {
                Self::BeitBlock {
                    grid,
                    n_masked,
                    min_area,
                    min_aspect,
                } => beit_block::draw(grid, n_masked, min_area, min_aspect, &mut rng, mask),
                Self::InverseBlock {
                    grid,
                    mask_prob,
                    mask_prob_adjust,
                    block,
                    ..
                } => {
                    let n_centres =
                        inverse_block::n_centres(grid, mask_prob, mask_prob_adjust, block);
                    let n_kept = inverse_block::n_kept(grid, mask_prob);
                    inverse_block::draw(grid, n_centres, block, n_kept, &mut rng, mask);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: SampleKey = SampleKey {
        seed: 1,
        epoch: 0,
        sample: 5,
    };

    fn drawn(config: &MaskConfig, key: SampleKey) -> Vec<u8> {
        let mut out = vec![2; config.n_masks() * config.n_patches()];
        config.draw(key, &mut out);
        out
    }

    #[test]
    fn masks_depend_on_the_key_and_on_nothing_else() {
        let config = MaskConfig::InverseBlock {
            grid: 14,
            n_masks: 8,
            mask_prob: 0.8,
            mask_prob_adjust: 0.07,
            block: 3,
        };
        let masks = drawn(&config, KEY);
        assert_eq!(masks, drawn(&config, KEY));
        assert_ne!(masks, drawn(&config, SampleKey { sample: 6, ..KEY }));
        assert_ne!(masks, drawn(&config, SampleKey { epoch: 1, ..KEY }));
        let mut rows: Vec<&[u8]> = masks.chunks(196).collect();
        rows.sort_unstable();
        rows.dedup();
        assert_eq!(rows.len(), 8, "two masks of one sample are the same");
    }
}
