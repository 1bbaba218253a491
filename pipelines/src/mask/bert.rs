//! BERT's masking: of the chosen tokens most become `<mask>`, some another token, some stay.

use std::ops::Range;

use super::text_spans;
use crate::rng::Rng;

/// What stands in for a chosen token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    /// The id of `<mask>`.
    pub mask: u32,
    /// The ids that a random token is drawn from. `mask` may lie within, and is not drawn.
    pub ordinary: Range<u32>,
}

/// Chooses about `prob · P` of `tokens` `[P]` (specials included, no padding) and replaces each by
/// `<mask>` with probability `mask_share`, by a random token with `random_share`; the others stay.
///
/// `mask` `[P]` is 1 where `<mask>` was put. The released objective takes its loss there alone:
/// random and unchanged tokens are context that cannot be trusted, not places to predict.
///
/// The reference can draw `<mask>` as a random token, one time in the size of the vocabulary. Here
/// it cannot, so that `mask` tells all of them.
///
/// # Panics
/// If there is no ordinary token and `random_share` is above 0.
pub fn draw(
    (prob, mask_share, random_share): (f64, f64, f64),
    vocabulary: &Vocabulary,
    rng: &mut Rng,
    tokens: &mut [u32],
    mask: &mut [u8],
) {
    text_spans::draw(prob, 1, rng, mask);
    for (token, mask) in tokens.iter_mut().zip(mask) {
        if *mask == 0 {
            continue;
        }
        let kind = rng.uniform();
        if kind < mask_share {
            *token = vocabulary.mask;
            continue;
        }
        *mask = 0;
        if kind < mask_share + random_share {
            *token = vocabulary.random(rng);
        }
    }
}

impl Vocabulary {
    fn random(&self, rng: &mut Rng) -> u32 {
        let Range { start, end } = self.ordinary;
        let has_mask = self.ordinary.contains(&self.mask);
        let token = start + rng.below((end - start) as usize - usize::from(has_mask)) as u32;
        token + u32::from(has_mask && token >= self.mask)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Purpose;

    #[test]
    fn random_tokens_are_all_ordinary_ones_but_mask() {
        let mut rng = Rng::for_name(1, Purpose::Mask, "tokens");
        for mask in [4, 6, 9, 12] {
            let vocabulary = Vocabulary {
                mask,
                ordinary: 4..10,
            };
            let mut drawn: Vec<u32> = (0..500).map(|_| vocabulary.random(&mut rng)).collect();
            drawn.sort_unstable();
            drawn.dedup();
            let expected: Vec<u32> = (4..10).filter(|&token| token != mask).collect();
            assert_eq!(drawn, expected);
        }
    }
}
