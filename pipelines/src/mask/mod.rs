//! Which positions the student does not see.
//!
//! Masks are drawn here, on the CPU and per sample, so that they depend on the sample's key and its
//! number of positions alone and not on the device; only [`spans::equalise`] looks across a batch.

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

use self::bert::Vocabulary;
use crate::config::MaskConfig;
use crate::rng::{Purpose, Rng, SampleKey};

/// Spans that a mask of speech has at least.
const MIN_SPANS: usize = 1;

impl MaskConfig {
    /// Patches of a picture: rows and columns of a mask, multiplied; `None` for audio and text.
    pub fn n_patches(&self) -> Option<usize> {
        self.grid().map(|grid| grid * grid)
    }

    /// Positions that every mask over `n_positions` leaves visible; `None` where the count differs
    /// from mask to mask.
    pub fn n_kept(&self, n_positions: usize) -> Option<usize> {
        match *self {
            Self::InverseBlock {
                grid, mask_prob, ..
            } => Some(inverse_block::n_kept(grid, mask_prob)),
            Self::Blocks { prob, .. } => Some(n_positions - blocks::n_masked(n_positions, prob)),
            Self::Tokens { prob, .. } => Some(random::n_kept(n_positions, prob)),
            _ => None,
        }
    }

    /// Whether the student sees other tokens in place of the masked ones.
    pub fn replaces_tokens(&self) -> bool {
        matches!(self, Self::TokenSpans { .. } | Self::Bert { .. })
    }

    /// Draws the masks of one sample into `out`: `[n_masks, P]`, row-major, 1 = masked. P is what
    /// the length of `out` makes it.
    ///
    /// # Panics
    /// If `out` has not P values for each mask, P the patches of a picture; or for the masks that
    /// replace tokens: [`MaskConfig::draw_tokens`] draws those.
    pub fn draw(&self, key: SampleKey, out: &mut [u8]) {
        let n_positions = out.len() / self.n_masks();
        assert_eq!(out.len(), self.n_masks() * n_positions);
        if let Some(n_patches) = self.n_patches() {
            assert_eq!(n_positions, n_patches);
        }
        if n_positions == 0 {
            return;
        }
        for (index, mask) in out.chunks_exact_mut(n_positions).enumerate() {
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
                Self::Spans { prob, length } => {
                    spans::draw(prob, length, MIN_SPANS, &mut rng, mask);
                }
                Self::Blocks {
                    prob,
                    prob_adjust,
                    block,
                    ..
                } => {
                    let n_centres = blocks::n_centres(n_positions, prob, prob_adjust, block);
                    let n_masked = blocks::n_masked(n_positions, prob);
                    blocks::draw(n_centres, block, n_masked, &mut rng, mask);
                }
                Self::Tokens { prob, .. } => {
                    random::draw(random::n_kept(n_positions, prob), &mut rng, mask);
                }
                Self::TokenSpans { .. } | Self::Bert { .. } => {
                    panic!("masks that replace tokens are drawn with the tokens")
                }
            }
        }
    }

    /// Draws the one mask of a text and replaces what it hides: `tokens` `[P]` are the sample's own,
    /// without padding, and become what the student sees; `mask` `[P]` is 1 where that is `<mask>`.
    ///
    /// # Panics
    /// For masks that do not replace tokens.
    pub fn draw_tokens(
        &self,
        key: SampleKey,
        vocabulary: &Vocabulary,
        tokens: &mut [u32],
        mask: &mut [u8],
    ) {
        let mut rng = Rng::for_sample(key, Purpose::Mask, 0);
        match *self {
            Self::TokenSpans { prob, length } => {
                text_spans::draw(prob, length, &mut rng, mask);
                for (token, _) in tokens.iter_mut().zip(mask).filter(|(_, mask)| **mask == 1) {
                    *token = vocabulary.mask;
                }
            }
            Self::Bert {
                prob,
                mask: mask_share,
                random,
            } => bert::draw(
                (prob, mask_share, random),
                vocabulary,
                &mut rng,
                tokens,
                mask,
            ),
            _ => panic!("this mask does not replace tokens"),
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
        let mut out = vec![2; config.n_masks() * 196];
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
