//! What text features without learning give: which of the commonest tokens a text has.

use std::collections::HashMap;

/// Tokens that are counted: the commonest of the training set.
const N_TOKENS: usize = 2048;

/// The tokens that serve as features, by how often they occur in the training set.
#[derive(Debug, Clone, Default)]
pub(super) struct BagOfWords {
    /// Occurrences so far.
    counts: HashMap<u32, u64>,
    /// Token id → place among the features.
    places: HashMap<u32, usize>,
}

impl BagOfWords {
    /// Counts the tokens of a text.
    pub(super) fn count(&mut self, text: &[u32]) {
        for &token in text {
            *self.counts.entry(token).or_default() += 1;
        }
    }

    /// Makes the commonest tokens the features; of equally common ones those with lower ids.
    pub(super) fn choose(&mut self) {
        let mut tokens: Vec<(u32, u64)> = self.counts.drain().collect();
        tokens.sort_unstable_by_key(|&(token, count)| (std::cmp::Reverse(count), token));
        let places = tokens.into_iter().take(N_TOKENS).enumerate();
        self.places = places.map(|(place, (token, _))| (token, place)).collect();
    }

    /// Features per text.
    pub(super) fn dim(&self) -> usize {
        self.places.len()
    }

    /// 1 for each feature token that the text has, 0 for the others, `[dim]`.
    pub(super) fn features(&self, text: &[u32]) -> Vec<f32> {
        let mut features = vec![0.0; self.dim()];
        for place in text.iter().filter_map(|token| self.places.get(token)) {
            features[*place] = 1.0;
        }
        features
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commonest_tokens_are_features_and_others_are_not() {
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
