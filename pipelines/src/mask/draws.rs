//! Random choices that the strategies share: distinct positions, and single positions flipped.

use crate::rng::Rng;

/// Draws `n` distinct numbers below `below`, in random order; all of them if `n` is larger.
pub(super) fn distinct(n: usize, below: usize, rng: &mut Rng) -> Vec<usize> {
    let n = n.min(below);
    let mut numbers: Vec<usize> = (0..below).collect();
    for place in 0..n {
        numbers.swap(place, place + rng.below(below - place));
    }
    numbers.truncate(n);
    numbers
}

/// Flips `n` random positions whose value is `from`; the mask must have that many.
pub(super) fn flip_random(mask: &mut [u8], from: u8, n: usize, rng: &mut Rng) {
    let mut candidates: Vec<usize> = (0..mask.len())
        .filter(|&position| mask[position] == from)
        .collect();
    for _ in 0..n {
        let position = candidates.swap_remove(rng.below(candidates.len()));
        mask[position] = 1 - from;
    }
}

/// Rounds to an integer whose mean is `mean`: the floor, or one more with the probability of the
/// remainder.
pub(super) fn rounded_at_random(mean: f64, rng: &mut Rng) -> usize {
    (mean + rng.uniform()) as usize
}

/// Counts the masked positions.
pub(super) fn n_masked(mask: &[u8]) -> usize {
    mask.iter().map(|&masked| usize::from(masked)).sum()
}
