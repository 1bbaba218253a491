//! Spans of frames, as wav2vec 2.0 and data2vec 1.0 mask speech (and, while fine-tuning, channels).

use super::draws::{distinct, n_masked, rounded_at_random, turn_random};
use crate::rng::{Purpose, Rng, SampleKey};

/// The random streams that equalising takes, apart from those of the masks themselves.
const EQUALISE: u32 = 1 << 31;

/// Masks about `prob · P / length` spans of `length` frames, which may overlap, and at least
/// `min_spans`; `mask` is `[P]`, 1 = masked, P the frames that the sample has (no padding).
///
/// Spans begin at distinct frames before `P - length`, so the last frame is never masked; in a
/// sample with room for fewer starts than spans they are cut off at its end. At least one frame
/// stays visible. The reference raises an error for a mask with no span, here it is left empty.
pub fn draw(prob: f64, length: usize, min_spans: usize, rng: &mut Rng, mask: &mut [u8]) {
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

/// Unmasks random frames until all masks of a batch have as many as the one with the fewest.
///
/// `masks` is `[B, M, n_positions]`, `keys` are the B samples'. What a sample loses depends on its
/// own key and on the batch's smallest count, on nothing else of the batch.
///
/// # Panics
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
        turn_random(mask, 1, n_masked - fewest, &mut rng);
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
        draw(0.65, 10, 1, &mut rng, &mut mask);
        mask
    }

    #[test]
    fn short_samples_keep_a_visible_frame() {
        for n_positions in 0..40 {
            for sample in 0..200 {
                let n_masked = n_masked(&drawn(n_positions, sample));
                let allowed = usize::from(n_positions > 1)..n_positions.max(1);
                assert!(
                    allowed.contains(&n_masked),
                    "{n_masked} of {n_positions} frames"
                );
            }
        }
    }

    #[test]
    fn no_span_is_an_empty_mask() {
        let mut mask = [2; 8];
        let mut rng = Rng::for_sample(key(0), Purpose::Mask, 0);
        draw(0.0, 64, 0, &mut rng, &mut mask);
        assert_eq!(mask, [0; 8]);
    }

    /// Equal counts, only frames that were masked, and a row that depends on its own key alone.
    #[test]
    fn equalising_takes_from_the_larger_masks() {
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
