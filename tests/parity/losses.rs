//! Reference implementations of the losses of Hugging Face's heads.

use burn::tensor::{Tensor, activation};

use crate::case::Golden;
use crate::compare::values;

/// Returns the mean cross-entropy of `[rows, classes]` over rows with a non-negative label.
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

/// Returns the CTC loss (Graves et al. 2006) of one row of logits, `[T, classes]`, class 0 the blank.
pub(crate) fn ctc(logits: Tensor<2>, targets: &[usize]) -> f64 {
    let [n, n_classes] = logits.dims();
    let log_probs = values(activation::log_softmax(logits, 1));
    // Blanks before, between and after the targets.
    let states: Vec<usize> = targets
        .iter()
        .flat_map(|&class| [0, class])
        .chain([0])
        .collect();
    let mut alpha = vec![f64::NEG_INFINITY; states.len()];
    for t in 0..n {
        let before = alpha.clone();
        for (state, &class) in states.iter().enumerate() {
            let back = |steps: usize| state.checked_sub(steps).map(|from| before[from]);
            let reached = if t == 0 {
                if state < 2 { 0.0 } else { f64::NEG_INFINITY }
            } else {
                let skips = state >= 2 && class != 0 && class != states[state - 2];
                let from = [back(0), back(1), back(2).filter(|_| skips)];
                log_sum(from.into_iter().flatten())
            };
            alpha[state] = reached + log_probs[t * n_classes + class];
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
