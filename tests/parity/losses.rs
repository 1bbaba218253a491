//! Losses of the heads of Hugging Face's models, written out.

use burn::tensor::{Tensor, activation};

use crate::case::Golden;
use crate::compare::values;

/// Mean cross-entropy of `[rows, classes]`; rows with a negative label are left out.
pub(crate) fn cross_entropy(logits: Tensor<2>, labels: &Golden) -> f64 {
    let [_, n_classes] = logits.dims();
    let log_probs = values(activation::log_softmax(logits, 1));
    let losses: Vec<f64> = labels
        .values
        .iter()
        .enumerate()
        .filter(|(_, label)| **label >= 0.0)
        .map(|(row, &label)| -log_probs[row * n_classes + label as usize])
        .collect();
    losses.iter().sum::<f64>() / losses.len() as f64
}

/// The CTC loss (Graves et al. 2006) of one row of logits, `[T, letters]`, letter 0 the blank.
pub(crate) fn ctc(logits: Tensor<2>, letters: &[usize]) -> f64 {
    let [n, n_letters] = logits.dims();
    let log_probs = values(activation::log_softmax(logits, 1));
    // Blanks before, between and after the letters.
    let places: Vec<usize> = letters
        .iter()
        .flat_map(|&letter| [0, letter])
        .chain([0])
        .collect();
    let mut alpha = vec![f64::NEG_INFINITY; places.len()];
    for t in 0..n {
        let before = alpha.clone();
        for (place, &letter) in places.iter().enumerate() {
            let back = |steps: usize| place.checked_sub(steps).map(|from| before[from]);
            let reached = if t == 0 {
                if place < 2 { 0.0 } else { f64::NEG_INFINITY }
            } else {
                let skips = place >= 2 && letter != 0 && letter != places[place - 2];
                let from = [back(0), back(1), back(2).filter(|_| skips)];
                log_sum(from.into_iter().flatten())
            };
            alpha[place] = reached + log_probs[t * n_letters + letter];
        }
    }
    -log_sum(alpha.into_iter().rev().take(2))
}

fn log_sum(values: impl Iterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.collect();
    let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if max == f64::NEG_INFINITY {
        return max;
    }
    let sum: f64 = values.iter().map(|value| (value - max).exp()).sum();
    max + sum.ln()
}
