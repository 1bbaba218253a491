//! Which set each sample of a lane comes from, where several are mixed.
//!
//! A lane's stream is a sequence of *units*: samples, or in a plan by cost its shares of the steps,
//! each of which is of one set. The sets are halved again and again; at each halving the first half
//! has had `⌊n · share + phase⌋` of the `n` units that both had together. So the count of each set
//! after any number of units is arithmetic, and lies within `⌈log2 sets⌉` units of its share: within
//! one for two sets. The phase differs from lane to lane, spread evenly, so that the lanes of one
//! step mix as well as the steps of one lane.

use std::ops::Range;

/// Which set each unit of each lane comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mix {
    /// What the sets before each weigh together, then all: `[n_sets + 1]`.
    starts: Vec<u64>,
    lanes: usize,
}

/// All weights together are less than two to this: with 32 bits of phase and 2^48 units the
/// products fit 128 bits, and whole numbers stay exact.
const WEIGHT_BITS: i32 = 46;

/// Steps of the phases at one halving after the other, as shares of 2^32: the golden ratio and
/// the roots of 2 and 3, whose multiples spread evenly alone and together.
const PHASE_STEPS: [u32; 3] = [0x9E37_79B9, 0x6A09_E667, 0xBB67_AE85];

impl Mix {
    /// The mix of sets with these weights, each above 0, in `lanes` lanes.
    pub(super) fn new(weights: &[f64], lanes: usize) -> Self {
        let total: f64 = weights.iter().sum();
        // A power of two, so that weights that are whole numbers keep their proportions exactly.
        let scale = (f64::from(WEIGHT_BITS) - 1.0 - total.log2().floor()).exp2();
        let mut starts = vec![0];
        let mut sum = 0;
        for weight in weights {
            sum += ((weight * scale).round() as u64).max(1);
            starts.push(sum);
        }
        Self { starts, lanes }
    }

    /// One set alone.
    pub(crate) fn single(lanes: usize) -> Self {
        Self::new(&[1.0], lanes)
    }

    /// Sets that are mixed.
    pub fn n_sets(&self) -> usize {
        self.starts.len() - 1
    }

    /// What a set has of all units, as a share of 1.
    pub fn share(&self, set: usize) -> f64 {
        (self.starts[set + 1] - self.starts[set]) as f64 / self.starts[self.n_sets()] as f64
    }

    /// The set that unit `unit` of a lane comes from.
    pub fn set_of(&self, lane: usize, unit: u64) -> usize {
        let (mut sets, mut unit, mut depth) = (0..self.n_sets(), unit, 0);
        while sets.len() > 1 {
            let middle = middle(&sets);
            let before = self.n_first(&sets, lane, depth, unit);
            if self.n_first(&sets, lane, depth, unit + 1) > before {
                (sets.end, unit) = (middle, before);
            } else {
                (sets.start, unit) = (middle, unit - before);
            }
            depth += 1;
        }
        sets.start
    }

    /// How many of a lane's first `n` units come from a set.
    pub fn count(&self, set: usize, lane: usize, n: u64) -> u64 {
        let (mut sets, mut n, mut depth) = (0..self.n_sets(), n, 0);
        while sets.len() > 1 {
            let middle = middle(&sets);
            let n_first = self.n_first(&sets, lane, depth, n);
            if set < middle {
                (sets.end, n) = (middle, n_first);
            } else {
                (sets.start, n) = (middle, n - n_first);
            }
            depth += 1;
        }
        n
    }

    /// How many of the `n` units of `sets` come from their first half.
    fn n_first(&self, sets: &Range<usize>, lane: usize, depth: usize, n: u64) -> u64 {
        let weight =
            |sets: Range<usize>| u128::from(self.starts[sets.end] - self.starts[sets.start]);
        let (first, all) = (weight(sets.start..middle(sets)), weight(sets.clone()));
        let phase = match depth {
            // Exactly even: then the sum over all lanes is the rounded share.
            0 => (((2 * lane as u64 + 1) << 31) / self.lanes as u64) as u32,
            _ => (lane as u32 + 1).wrapping_mul(PHASE_STEPS[(depth - 1) % PHASE_STEPS.len()]),
        };
        ((((u128::from(n) * first) << 32) + u128::from(phase) * all) / (all << 32)) as u64
    }
}

fn middle(sets: &Range<usize>) -> usize {
    sets.start + sets.len() / 2
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_prefix_of_a_lane_has_each_set_near_its_share(
            weights in prop::collection::vec(prop_oneof![Just(1.0), 0.001_f64..1000.0], 1..9),
            lanes in 1_usize..40, lane: prop::sample::Index, start in 0_u64..1 << 40,
        ) {
            let mix = Mix::new(&weights, lanes);
            let lane = lane.index(lanes);
            let allowed = f64::from(weights.len().next_power_of_two().trailing_zeros()) + 1e-3;
            let mut counts: Vec<u64> = (0..weights.len()).map(|set| mix.count(set, lane, start)).collect();
            for n in start..start + 200 {
                prop_assert_eq!(counts.iter().sum::<u64>(), n);
                for (set, &count) in counts.iter().enumerate() {
                    prop_assert_eq!(count, mix.count(set, lane, n));
                    let wanted = mix.share(set) * n as f64;
                    prop_assert!((count as f64 - wanted).abs() <= allowed, "{count} of {wanted}");
                }
                counts[mix.set_of(lane, n)] += 1;
            }
        }

        #[test]
        fn every_prefix_of_the_steps_has_two_sets_within_a_sample(
            weight in 0.01_f64..100.0, lanes in 1_usize..64, n in 0_u64..10_000,
        ) {
            let mix = Mix::new(&[weight, 1.0], lanes);
            let all: u64 = (0..lanes).map(|lane| mix.count(0, lane, n)).sum();
            let wanted = mix.share(0) * (n * lanes as u64) as f64;
            prop_assert!((all as f64 - wanted).abs() <= 1.0, "{all} of {wanted}");
        }
    }

    #[test]
    fn the_lanes_of_one_step_mix_too() {
        // One sample a lane: a step of 64 samples has each of five sets near its share.
        let weights = [5.0, 1.0, 2.0, 3.0, 5.0];
        let mix = Mix::new(&weights, 64);
        for unit in 0..1000 {
            let mut counts = [0; 5];
            for lane in 0..64 {
                counts[mix.set_of(lane, unit)] += 1;
            }
            for (count, weight) in counts.iter().zip(weights) {
                let wanted = weight * 4.0;
                let off = (f64::from(*count) - wanted).abs();
                assert!(off <= 4.0, "step {unit}: {counts:?}");
            }
        }
    }

    #[test]
    fn whole_weights_repeat_exactly() {
        let mix = Mix::new(&[2_000_000.0, 1_000_000.0, 1.0], 1);
        assert_eq!(mix.count(0, 0, 3_000_001 << 10), 2_000_000 << 10);
        assert_eq!(mix.count(2, 0, 3_000_001 << 10), 1 << 10);
    }
}
