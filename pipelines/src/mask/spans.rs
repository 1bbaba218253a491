//! Spans of positions, as wav2vec 2.0 and data2vec 1.0 mask audio (and, in fine-tuning, channels).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::{self, failed};
use super::draws::{distinct, flip_random, n_masked, rounded_at_random};
use crate::rng::{Purpose, Rng, SampleKey};

/// Spans that a mask has at least.
const MIN_SPANS: usize = 1;

/// Random streams of [`equalise`], separate from those of the masks themselves.
const EQUALISE: u32 = 1 << 31;

/// The table `[data.mask.spans]`: spans of positions are masked, as many in every mask of a
/// micro-batch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline, description = "")]
pub struct Spans {
    /// Share of positions that spans would mask if none overlapped.
    pub prob: f64,
    /// Positions of a span.
    pub length: usize,
}

impl Spans {
    /// Returns the invalid keys, as `key: problem`.
    pub(super) fn check(&self) -> Vec<String> {
        failed([
            check::share("prob", self.prob),
            (self.length > 0, "length: must be at least 1".to_owned()),
        ])
    }

    /// Masks at least one span; `mask` is `[P]`, 1 = masked. See [`draw_spans`].
    pub fn draw(&self, rng: &mut Rng, mask: &mut [u8]) {
        draw_spans(self.prob, self.length, MIN_SPANS, rng, mask);
    }
}

/// Masks about `prob · P / length` spans of `length` positions, which may overlap, and at least
/// `min_spans`; `mask` is `[P]`, 1 = masked, P the positions that the sample has (no padding).
///
/// Spans start at distinct positions before `P - length`, so the last position is never masked; in a
/// sample with fewer possible starts than spans, spans are cut off at its end. At least one position
/// stays visible. The reference raises an error for a mask without spans; here it is left empty.
pub fn draw_spans(prob: f64, length: usize, min_spans: usize, rng: &mut Rng, mask: &mut [u8]) {
    mask.fill(0);
    let n_positions = mask.len();
    let mean = prob * n_positions as f64 / length as f64;
    let n_spans = rounded_at_random(mean, rng).max(min_spans);
    let n_starts = n_positions.saturating_sub(length).max(n_spans + 1);
    for start in distinct(n_spans, n_starts.min(n_positions), rng) {
        mask[start..(start + length).min(n_positions)].fill(1);
    }
    if n_positions > 0 && n_masked(mask) == n_positions {
        mask[rng.below(n_positions)] = 0;
    }
}

/// Unmasks random positions until every mask of a batch has as many as the one with the fewest.
///
/// `masks` is `[B, M, n_positions]`, `keys` is `[B]`. The change of a sample's masks depends on its
/// own key and on the smallest count of the batch, on nothing else of the batch.
///
/// # Panics
///
/// If `masks` does not divide into that shape.
pub fn equalise(masks: &mut [u8], n_positions: usize, keys: &[SampleKey]) {
    if masks.is_empty() {
        return;
    }
    let n_masks = masks.len() / n_positions / keys.len();
    assert_eq!(masks.len(), keys.len() * n_masks * n_positions);
    let fewest = masks.chunks_exact(n_positions).map(n_masked).min();
    let fewest = fewest.expect("there is a mask");
    for (row, mask) in masks.chunks_exact_mut(n_positions).enumerate() {
        let stream = EQUALISE | (row % n_masks) as u32;
        let mut rng = Rng::for_sample(keys[row / n_masks], Purpose::Mask, stream);
        let n_masked = n_masked(mask);
        flip_random(mask, 1, n_masked - fewest, &mut rng);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(sample: u64) -> SampleKey {
        SampleKey {
            seed: 3,
            epoch: 0,
            sample,
        }
    }

    fn drawn(n_positions: usize, sample: u64) -> Vec<u8> {
        let mut mask = vec![2; n_positions];
        let mut rng = Rng::for_sample(key(sample), Purpose::Mask, 0);
        draw_spans(0.65, 10, 1, &mut rng, &mut mask);
        mask
    }

    #[test]
    fn short_samples_keep_a_visible_position() {
        for n_positions in 0..40 {
            for sample in 0..200 {
                let n_masked = n_masked(&drawn(n_positions, sample));
                let allowed = usize::from(n_positions > 1)..n_positions.max(1);
                assert!(
                    allowed.contains(&n_masked),
                    "{n_masked} of {n_positions} positions"
                );
            }
        }
    }

    #[test]
    fn no_spans_give_an_empty_mask() {
        let mut mask = [2; 8];
        let mut rng = Rng::for_sample(key(0), Purpose::Mask, 0);
        draw_spans(0.0, 64, 0, &mut rng, &mut mask);
        assert_eq!(mask, [0; 8]);
    }

    /// Counts become equal, only masked positions change, and a row depends on its own key alone.
    #[test]
    fn equalise_unmasks_only_larger_masks_and_ignores_row_order() {
        let keys: Vec<SampleKey> = (0..4).map(key).collect();
        let before: Vec<u8> = (0..4).flat_map(|sample| drawn(200, sample)).collect();
        let mut masks = before.clone();
        equalise(&mut masks, 200, &keys);
        let counts: Vec<usize> = before.chunks(200).map(n_masked).collect();
        let fewest = counts.iter().copied().min().unwrap();
        assert!(
            counts.iter().any(|&count| count > fewest),
            "nothing to equalise"
        );
        for mask in masks.chunks(200) {
            assert_eq!(n_masked(mask), fewest);
        }
        assert!(
            masks
                .iter()
                .zip(&before)
                .all(|(after, before)| after <= before)
        );

        let other_place: Vec<usize> = vec![3, 1, 0, 2];
        let mut turned: Vec<u8> = other_place
            .iter()
            .flat_map(|&row| before[row * 200..][..200].to_vec())
            .collect();
        let keys: Vec<SampleKey> = other_place.iter().map(|&row| key(row as u64)).collect();
        equalise(&mut turned, 200, &keys);
        for (place, &row) in other_place.iter().enumerate() {
            assert_eq!(turned[place * 200..][..200], masks[row * 200..][..200]);
        }
    }
}
