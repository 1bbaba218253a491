//! What the samplers draw: distinct positions, and single positions turned over.

use crate::rng::Rng;

/// `n` distinct numbers below `below`, in random order; all of them where `n` is larger.
pub(super) fn distinct(n: usize, below: usize, rng: &mut Rng) -> Vec<usize> {
    let n = n.min(below);
    let mut numbers: Vec<usize> = (0..below).collect();
    for place in 0..n {
        numbers.swap(place, place + rng.below(below - place));
    }
    numbers.truncate(n);
    numbers
}

/// Turns `n` random positions that are `from` into the other kind; `mask` has as many.
pub(super) fn turn_random(mask: &mut [u8], from: u8, n: usize, rng: &mut Rng) {
    let mut candidates: Vec<usize> = (0..mask.len())
        .filter(|&position| mask[position] == from)
        .collect();
    for _ in 0..n {
        let position = candidates.swap_remove(rng.below(candidates.len()));
        mask[position] = 1 - from;
    }
}

/// A whole number of mean `mean`: its floor, or one more with the probability of what is left.
pub(super) fn rounded_at_random(mean: f64, rng: &mut Rng) -> usize {
    (mean + rng.uniform()) as usize
}

/// The positions that are masked.
pub(super) fn n_masked(mask: &[u8]) -> usize {
    mask.iter().map(|&masked| usize::from(masked)).sum()
}
