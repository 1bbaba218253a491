//! The dataset that each sample of a lane comes from, in a mixture.
//!
//! A lane walks a sequence of *units*: samples, or in a plan by cost micro-batches, each of one
//! dataset. The datasets are halved again and again; at each halving the first half
//! has had `⌊n · share + phase⌋` of the `n` units that both had together. So the count of each dataset
//! after any number of units is arithmetic, and is within `⌈log2 datasets⌉` units of its share: within
//! one for two datasets. The phase differs from lane to lane, spread evenly, so that the lanes of one
//! step mix as well as the steps of one lane.

use std::ops::Range;

/// The dataset that each unit of each lane comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mix {
    /// Weight of all datasets before each, then of all: `[n_datasets + 1]`.
    starts: Vec<u64>,
    lanes: usize,
}

/// All weights together are less than two to this: with 32 bits of phase and 2^48 units the
/// products fit 128 bits, and integers stay exact.
const WEIGHT_BITS: i32 = 46;

/// Steps of the phases at one halving after the other, as shares of 2^32: the golden ratio and
/// the roots of 2 and 3, whose multiples spread evenly alone and together.
const PHASE_STEPS: [u32; 3] = [0x9E37_79B9, 0x6A09_E667, 0xBB67_AE85];

impl Mix {
    /// Mixes datasets with these weights, each above 0, in `lanes` lanes.
    pub(super) fn new(weights: &[f64], lanes: usize) -> Self {
        let total: f64 = weights.iter().sum();
        // A power of two, so that weights that are integers keep their proportions exactly.
        let scale = (f64::from(WEIGHT_BITS) - 1.0 - total.log2().floor()).exp2();
        let mut starts = vec![0];
        let mut sum = 0;
        for weight in weights {
            sum += ((weight * scale).round() as u64).max(1);
            starts.push(sum);
        }
        Self { starts, lanes }
    }

    /// Takes everything from a single dataset.
    pub(crate) fn single(lanes: usize) -> Self {
        Self::new(&[1.0], lanes)
    }

    /// Returns the number of datasets.
    pub fn n_datasets(&self) -> usize {
        self.starts.len() - 1
    }

    /// Returns a dataset's share of all units, between 0 and 1.
    pub fn share(&self, dataset: usize) -> f64 {
        (self.starts[dataset + 1] - self.starts[dataset]) as f64
            / self.starts[self.n_datasets()] as f64
    }

    /// Returns the dataset that unit `unit` of a lane comes from.
    pub fn dataset_of(&self, lane: usize, unit: u64) -> usize {
        let (mut datasets, mut unit, mut depth) = (0..self.n_datasets(), unit, 0);
        while datasets.len() > 1 {
            let middle = middle(&datasets);
            let before = self.n_first(&datasets, lane, depth, unit);
            if self.n_first(&datasets, lane, depth, unit + 1) > before {
                (datasets.end, unit) = (middle, before);
            } else {
                (datasets.start, unit) = (middle, unit - before);
            }
            depth += 1;
        }
        datasets.start
    }

    /// Counts the units from a dataset among a lane's first `n`.
    pub fn count(&self, dataset: usize, lane: usize, n: u64) -> u64 {
        let (mut datasets, mut n, mut depth) = (0..self.n_datasets(), n, 0);
        while datasets.len() > 1 {
            let middle = middle(&datasets);
            let n_first = self.n_first(&datasets, lane, depth, n);
            if dataset < middle {
                (datasets.end, n) = (middle, n_first);
            } else {
                (datasets.start, n) = (middle, n - n_first);
            }
            depth += 1;
        }
        n
    }

    /// Counts the units from the first half of `datasets` among their first `n`.
    fn n_first(&self, datasets: &Range<usize>, lane: usize, depth: usize, n: u64) -> u64 {
        let weight = |datasets: Range<usize>| {
            u128::from(self.starts[datasets.end] - self.starts[datasets.start])
        };
        let (first, all) = (
            weight(datasets.start..middle(datasets)),
            weight(datasets.clone()),
        );
        let phase = match depth {
            // Exactly even: then the sum over all lanes is the rounded share.
            0 => (((2 * lane as u64 + 1) << 31) / self.lanes as u64) as u32,
            _ => (lane as u32 + 1).wrapping_mul(PHASE_STEPS[(depth - 1) % PHASE_STEPS.len()]),
        };
        ((((u128::from(n) * first) << 32) + u128::from(phase) * all) / (all << 32)) as u64
    }
}

fn middle(datasets: &Range<usize>) -> usize {
    datasets.start + datasets.len() / 2
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_prefix_of_a_lane_has_each_dataset_near_its_share(
            weights in prop::collection::vec(prop_oneof![Just(1.0), 0.001_f64..1000.0], 1..9),
            lanes in 1_usize..40, lane: prop::sample::Index, start in 0_u64..1 << 40,
        ) {
            let mix = Mix::new(&weights, lanes);
            let lane = lane.index(lanes);
            let allowed = f64::from(weights.len().next_power_of_two().trailing_zeros()) + 1e-3;
            let mut counts: Vec<u64> = (0..weights.len()).map(|dataset| mix.count(dataset, lane, start)).collect();
            for n in start..start + 200 {
                prop_assert_eq!(counts.iter().sum::<u64>(), n);
                for (dataset, &count) in counts.iter().enumerate() {
                    prop_assert_eq!(count, mix.count(dataset, lane, n));
                    let wanted = mix.share(dataset) * n as f64;
                    prop_assert!((count as f64 - wanted).abs() <= allowed, "{count} of {wanted}");
                }
                counts[mix.dataset_of(lane, n)] += 1;
            }
        }

        #[test]
        fn every_prefix_of_the_steps_has_two_datasets_within_a_sample_of_their_share(
            weight in 0.01_f64..100.0, lanes in 1_usize..64, n in 0_u64..10_000,
        ) {
            let mix = Mix::new(&[weight, 1.0], lanes);
            let all: u64 = (0..lanes).map(|lane| mix.count(0, lane, n)).sum();
            let wanted = mix.share(0) * (n * lanes as u64) as f64;
            prop_assert!((all as f64 - wanted).abs() <= 1.0, "{all} of {wanted}");
        }
    }

    #[test]
    fn each_step_has_each_dataset_near_its_share() {
        // One sample a lane: a step of 64 samples has each of five datasets near its share.
        let weights = [5.0, 1.0, 2.0, 3.0, 5.0];
        let mix = Mix::new(&weights, 64);
        for unit in 0..1000 {
            let mut counts = [0; 5];
            for lane in 0..64 {
                counts[mix.dataset_of(lane, unit)] += 1;
            }
            for (count, weight) in counts.iter().zip(weights) {
                let wanted = weight * 4.0;
                let off = (f64::from(*count) - wanted).abs();
                assert!(off <= 4.0, "step {unit}: {counts:?}");
            }
        }
    }

    #[test]
    fn integer_weights_keep_their_proportions_exactly() {
        let mix = Mix::new(&[2_000_000.0, 1_000_000.0, 1.0], 1);
        assert_eq!(mix.count(0, 0, 3_000_001 << 10), 2_000_000 << 10);
        assert_eq!(mix.count(2, 0, 3_000_001 << 10), 1 << 10);
    }
}
