//! data2vec 2.0's mask for speech: blocks of frames, then single ones to an exact count.

use super::draws::{n_masked as count, turn_random};
use crate::rng::Rng;

/// Frames that a mask over `n_positions` hides: the floor in double precision, as the reference.
pub fn n_masked(n_positions: usize, mask_prob: f64) -> usize {
    (n_positions as f64 * mask_prob) as usize
}

/// Blocks that are masked before the count is made exact.
pub fn n_centres(n_positions: usize, mask_prob: f64, adjust: f64, block: usize) -> usize {
    (n_positions as f64 * ((mask_prob + adjust) / block as f64)) as usize
}

/// Masks `block` frames around each of `n_centres` random frames, cut off at the ends, then masks
/// or unmasks random single frames until `n_masked` are masked; `mask` is `[P]`, 1 = masked.
///
/// # Panics
/// If `n_masked` is above P.
pub fn draw(n_centres: usize, block: usize, n_masked: usize, rng: &mut Rng, mask: &mut [u8]) {
    mask.fill(0);
    for _ in 0..n_centres {
        let centre = rng.below(mask.len()); // With replacement, the ends included.
        let from = centre.saturating_sub(block / 2);
        let end = (centre + block - block / 2).min(mask.len());
        mask[from..end].fill(1);
    }
    let masked = count(mask);
    if masked > n_masked {
        turn_random(mask, 1, masked - n_masked, rng);
    } else {
        turn_random(mask, 0, n_masked - masked, rng);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_those_of_the_recipes() {
        let counts = |n, prob, adjust| (n_masked(n, prob), n_centres(n, prob, adjust, 5));
        assert_eq!(counts(499, 0.5, 0.05), (249, 54)); // Base, ten seconds.
        assert_eq!(counts(312, 0.55, 0.1), (171, 40)); // Large.
        assert_eq!(counts(1, 0.5, 0.05), (0, 0));
    }
}
