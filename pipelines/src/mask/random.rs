//! data2vec 2.0's mask for text: tokens at random, one by one.

use super::draws::turn_random;
use crate::rng::Rng;

/// Tokens of `n_positions` that a mask keeps: the floor in double precision, as the reference.
pub fn n_kept(n_positions: usize, mask_prob: f64) -> usize {
    (n_positions as f64 * (1.0 - mask_prob)) as usize
}

/// Masks all but `n_kept` random tokens, specials no less than others; `mask` is `[P]`, 1 = masked.
///
/// # Panics
/// If `n_kept` is above P.
pub fn draw(n_kept: usize, rng: &mut Rng, mask: &mut [u8]) {
    mask.fill(1);
    turn_random(mask, 1, n_kept, rng);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_those_of_the_recipes() {
        assert_eq!(n_kept(512, 0.48), 266); // Base.
        assert_eq!(n_kept(512, 0.5), 256); // Large.
        assert_eq!(n_kept(50, 0.5), 25);
    }
}
