//! data2vec 2.0's mask for images: blocks are kept, all the rest is masked.

use super::draws::turn_random;
use crate::rng::Rng;

/// Patches that a mask keeps. Every mask of a recipe keeps the same number, so that the kept
/// tokens of a batch form one tensor.
///
/// The reference code takes the floor of this very product in double precision, where a tenth of
/// 100 patches is 9: 100 · (1 − 0.9) falls just short of 10.
pub(super) fn n_kept(grid: usize, mask_prob: f64) -> usize {
    ((grid * grid) as f64 * (1.0 - mask_prob)) as usize
}

/// Blocks that are kept before the count is made exact.
pub(super) fn n_centres(grid: usize, mask_prob: f64, adjust: f64, block: usize) -> usize {
    let share_per_block = ((1.0 - mask_prob) + adjust) / (block * block) as f64;
    ((grid * grid) as f64 * share_per_block) as usize
}

/// Keeps the `block`-sided squares around `n_centres` random patches, cut off at the border, then
/// drops or adds random single patches until `n_kept` are kept.
pub(super) fn draw(
    grid: usize,
    n_centres: usize,
    block: usize,
    n_kept: usize,
    rng: &mut Rng,
    mask: &mut [u8],
) {
    mask.fill(1);
    for _ in 0..n_centres {
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
    let kept = mask.len()
        - mask
            .iter()
            .map(|&masked| usize::from(masked))
            .sum::<usize>();
    if kept > n_kept {
        turn_random(mask, 0, kept - n_kept, rng);
    } else {
        turn_random(mask, 1, n_kept - kept, rng);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_those_of_the_recipes() {
        assert_eq!((n_kept(14, 0.8), n_centres(14, 0.8, 0.07, 3)), (39, 5)); // ViT-B
        assert_eq!((n_kept(14, 0.75), n_centres(14, 0.75, 0.1, 3)), (49, 7)); // ViT-L
        assert_eq!((n_kept(16, 0.75), n_centres(16, 0.75, 0.1, 3)), (64, 9)); // ViT-H/14
        assert_eq!(n_kept(10, 0.9), 9, "the floor is taken in double precision");
    }
}
