//! Bag of words: for each of the most frequent tokens, whether a text contains it.

use std::collections::HashMap;

/// Number of features: the most frequent tokens of the training set.
const N_TOKENS: usize = 2048;

/// Tokens that serve as features, the most frequent of the training set first.
#[derive(Debug, Clone, Default)]
pub(super) struct BagOfWords {
    /// Occurrences so far.
    counts: HashMap<u32, u64>,
    /// Token id → feature index.
    indices: HashMap<u32, usize>,
}

impl BagOfWords {
    /// Counts the tokens of a text.
    pub(super) fn count(&mut self, text: &[u32]) {
        for &token in text {
            *self.counts.entry(token).or_default() += 1;
        }
    }

    /// Makes the most frequent tokens the features; lower ids win ties.
    pub(super) fn choose(&mut self) {
        let mut tokens: Vec<(u32, u64)> = self.counts.drain().collect();
        tokens.sort_unstable_by_key(|&(token, count)| (std::cmp::Reverse(count), token));
        let features = tokens.into_iter().take(N_TOKENS).enumerate();
        self.indices = features.map(|(index, (token, _))| (token, index)).collect();
    }

    /// Returns the number of features per text.
    pub(super) fn dim(&self) -> usize {
        self.indices.len()
    }

    /// Returns 1 for each feature token that the text has and 0 for the others, `[dim]`.
    pub(super) fn features(&self, text: &[u32]) -> Vec<f32> {
        let mut features = vec![0.0; self.dim()];
        for index in text.iter().filter_map(|token| self.indices.get(token)) {
            features[*index] = 1.0;
        }
        features
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_most_frequent_tokens_are_features() {
        let common: Vec<u32> = (0..N_TOKENS as u32).collect();
        let mut bag = BagOfWords::default();
        bag.count(&common);
        bag.count(&common);
        bag.count(&[9_999]);
        bag.choose();
        assert_eq!(bag.dim(), N_TOKENS);
        let features = bag.features(&[3, 3, 9_999]);
        assert!((features.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        assert!((features[3] - 1.0).abs() < 1e-6);
    }
}
