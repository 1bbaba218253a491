//! BERT's mask: of the chosen tokens most become `<mask>`, some a random token, some stay.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::{self, failed};
use super::token_spans;
use crate::rng::Rng;
use crate::tokenize::SpecialTokens;

/// The table `[data.mask.bert]`: chosen tokens are replaced or stay.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline, description = "")]
pub struct Bert {
    /// Share of tokens chosen.
    pub prob: f64,
    /// Share of the chosen that become `<mask>`: those alone are predicted.
    pub mask: f64,
    /// Share of the chosen that become a random token.
    pub random: f64,
}

impl Bert {
    /// Returns the invalid keys, as `key: problem`.
    pub(super) fn check(&self) -> Vec<String> {
        let &Self { mask, random, .. } = self;
        failed([
            check::share("prob", self.prob),
            (
                mask > 0.0 && random >= 0.0 && mask + random <= 1.0,
                format!(
                    "mask: must be above 0 and, with random, at most 1; they are {mask} and {random}"
                ),
            ),
        ])
    }

    /// Chooses about `prob · P` of `tokens` `[P]` (special tokens included, no padding) and replaces
    /// each by `<mask>` with the probability `mask`, by a random token with the probability
    /// `random`; the others stay.
    ///
    /// `mask` `[P]` is 1 where a token became `<mask>`. The released objective takes its loss there
    /// alone: random and unchanged tokens are context that cannot be trusted, not positions to
    /// predict.
    ///
    /// The reference can draw `<mask>` as a random token, once in the size of the vocabulary. Here
    /// it cannot, so that `mask` marks every `<mask>`.
    ///
    /// # Panics
    ///
    /// If the vocabulary has no ordinary token and `random` is above 0.
    pub fn draw(
        &self,
        special: &SpecialTokens,
        rng: &mut Rng,
        tokens: &mut [u32],
        mask: &mut [u8],
    ) {
        token_spans::choose(self.prob, 1, rng, mask);
        for (token, mask) in tokens.iter_mut().zip(mask) {
            if *mask == 0 {
                continue;
            }
            let kind = rng.uniform();
            if kind < self.mask {
                *token = special.mask;
                continue;
            }
            *mask = 0;
            if kind < self.mask + self.random {
                *token = random_token(special, rng);
            }
        }
    }
}

/// Draws an ordinary token that is not `<mask>`.
fn random_token(special: &SpecialTokens, rng: &mut Rng) -> u32 {
    let ordinary = special.ordinary();
    let has_mask = ordinary.contains(&special.mask);
    let n = ordinary.len() - usize::from(has_mask);
    let token = ordinary.start + rng.below(n) as u32;
    token + u32::from(has_mask && token >= special.mask)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Purpose;

    #[test]
    fn random_tokens_are_ordinary_and_never_mask() {
        let mut rng = Rng::for_name(1, Purpose::Mask, "tokens");
        for mask in [4, 6, 9, 12] {
            let special = SpecialTokens {
                bos: 0,
                pad: 1,
                eos: 2,
                unk: 3,
                mask,
                vocab_size: 10,
            };
            let mut drawn: Vec<u32> = (0..500).map(|_| random_token(&special, &mut rng)).collect();
            drawn.sort_unstable();
            drawn.dedup();
            let expected: Vec<u32> = (4..10).filter(|&token| token != mask).collect();
            assert_eq!(drawn, expected);
        }
    }
}
