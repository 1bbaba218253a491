//! Counter-based random numbers: a pure function of seed, epoch, sample and purpose.
//!
//! The generator is Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
//! SC 2011). Nothing here reads a clock, a thread or a global, so the same key gives the same
//! numbers on any rank and any thread.

use xxhash_rust::xxh3::xxh3_128;

/// The purpose of a drawn number: it separates the streams of one sample.
///
/// The numbers are part of what makes a run repeatable: never reuse or reorder them.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Order of rows.
    Order = 1,
    /// The window of a random crop.
    Crop = 2,
    /// Horizontal flip.
    Flip = 3,
    /// Factors and order of brightness, contrast and saturation.
    ColorJitter = 4,
    /// Patches hidden from the student.
    Mask = 5,
    /// Initial parameters.
    Init = 6,
}

/// The key of a sample's random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleKey {
    /// `seed` of the config.
    pub seed: u64,
    /// Epoch of the sample's lane in its dataset, from 0.
    pub epoch: u64,
    /// Number of the row in the dataset, shards sorted by relative path; datasets of a mixture follow
    /// one another.
    pub sample: u64,
}

/// A stream of random numbers, 2^34 of 32 bits long.
#[derive(Clone, Debug)]
pub struct Rng {
    key: [u32; 2],
    /// Word 0 counts blocks, the others name the stream.
    counter: [u32; 4],
    block: [u32; 4],
    /// Number of words of `block` already returned.
    used: usize,
    /// Second normal of the pair that Box–Muller makes.
    spare_normal: Option<f64>,
}

impl Rng {
    /// Returns the stream of one purpose of one sample; `index` separates several of them (such as the
    /// number of a mask).
    pub fn for_sample(key: SampleKey, purpose: Purpose, index: u32) -> Rng {
        let SampleKey {
            seed,
            epoch,
            sample,
        } = key;
        Rng::new(
            seed,
            u128::from(epoch) << 64 | u128::from(sample),
            purpose,
            index,
        )
    }

    /// Returns the stream of a name, for a parameter's initial values or a lane's permutation.
    pub fn for_name(seed: u64, purpose: Purpose, name: &str) -> Rng {
        Rng::new(seed, xxh3_128(name.as_bytes()), purpose, 0)
    }

    /// Encrypts `owner` with Philox under the seed first: 256 bits of identity do not fit the 192 bits
    /// of key and counter, and the result depends on all of them.
    fn new(seed: u64, owner: u128, purpose: Purpose, index: u32) -> Rng {
        let word = |value: u128, i: u32| (value >> (32 * i)) as u32;
        let seed_words = [word(seed.into(), 0), word(seed.into(), 1)];
        let owner_words = [0, 1, 2, 3].map(|i| word(owner, i));
        let [a, b, c, d] = philox4x32_10(owner_words, seed_words);
        Rng {
            key: [a, b],
            counter: [0, index, purpose as u32 ^ c, d],
            block: [0; 4],
            used: 4,
            spare_normal: None,
        }
    }

    /// Returns 32 random bits.
    pub fn next_u32(&mut self) -> u32 {
        if self.used == 4 {
            self.block = philox4x32_10(self.counter, self.key);
            self.counter[0] = self.counter[0].wrapping_add(1);
            self.used = 0;
        }
        let word = self.block[self.used];
        self.used += 1;
        word
    }

    /// Returns 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        let low = u64::from(self.next_u32());
        u64::from(self.next_u32()) << 32 | low
    }

    /// Draws uniformly from [0, 1), in steps of 2^-53.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }

    /// Draws uniformly from [low, high).
    pub fn range(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// Draws uniformly from 0..n, without bias (Lemire, "Fast random integer generation in an interval").
    ///
    /// # Panics
    /// If `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        assert!(n > 0, "cannot draw from 0..0");
        let n = n as u64;
        let mut product = u128::from(self.next_u64()) * u128::from(n);
        if (product as u64) < n {
            let excess = n.wrapping_neg() % n; // 2^64 mod n
            while (product as u64) < excess {
                product = u128::from(self.next_u64()) * u128::from(n);
            }
        }
        (product >> 64) as usize
    }

    /// Draws a normal number with mean 0 and variance 1 (Box–Muller).
    pub fn normal(&mut self) -> f64 {
        if let Some(normal) = self.spare_normal.take() {
            return normal;
        }
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt(); // 1 − u is never 0.
        let (sin, cos) = (std::f64::consts::TAU * self.uniform()).sin_cos();
        self.spare_normal = Some(radius * sin);
        radius * cos
    }

    /// Puts `items` in a uniformly random order (Fisher–Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// Returns one block of Philox4x32 with ten rounds.
fn philox4x32_10(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let [c0, c1, c2, c3] = counter;
        let left = u64::from(c0) * 0xD251_1F53;
        let right = u64::from(c2) * 0xCD9E_8D57;
        counter = [
            (right >> 32) as u32 ^ c1 ^ key[0],
            right as u32,
            (left >> 32) as u32 ^ c3 ^ key[1],
            left as u32,
        ];
        key = [
            key[0].wrapping_add(0x9E37_79B9),
            key[1].wrapping_add(0xBB67_AE85),
        ];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: SampleKey = SampleKey {
        seed: 7,
        epoch: 2,
        sample: 31,
    };

    /// Checks the three lines for `philox4x32 10` in Random123's file of known answers.
    #[test]
    fn philox_matches_the_published_answers() {
        for (counter, key, answer) in [
            (
                [0; 4],
                [0; 2],
                [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8],
            ),
            (
                [u32::MAX; 4],
                [u32::MAX; 2],
                [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd],
            ),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ] {
            assert_eq!(philox4x32_10(counter, key), answer);
        }
    }

    #[test]
    fn every_field_of_the_key_changes_the_stream() {
        let first = |key, purpose, index| Rng::for_sample(key, purpose, index).next_u64();
        let mut seen = vec![
            first(KEY, Purpose::Crop, 0),
            first(KEY, Purpose::Crop, 1),
            first(KEY, Purpose::Flip, 0),
            first(SampleKey { seed: 8, ..KEY }, Purpose::Crop, 0),
            first(SampleKey { epoch: 3, ..KEY }, Purpose::Crop, 0),
            first(SampleKey { sample: 32, ..KEY }, Purpose::Crop, 0),
            first(
                SampleKey {
                    seed: 7 | 1 << 32,
                    ..KEY
                },
                Purpose::Crop,
                0,
            ),
            first(
                SampleKey {
                    epoch: 2 | 1 << 32,
                    ..KEY
                },
                Purpose::Crop,
                0,
            ),
            first(
                SampleKey {
                    sample: 31 | 1 << 32,
                    ..KEY
                },
                Purpose::Crop,
                0,
            ),
            first(
                SampleKey {
                    epoch: 31,
                    sample: 2,
                    ..KEY
                },
                Purpose::Crop,
                0,
            ),
            Rng::for_name(7, Purpose::Init, "blocks.0.weight").next_u64(),
            Rng::for_name(7, Purpose::Init, "blocks.1.weight").next_u64(),
            Rng::for_name(8, Purpose::Init, "blocks.0.weight").next_u64(),
        ];
        let n = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), n);
        assert_eq!(first(KEY, Purpose::Crop, 1), first(KEY, Purpose::Crop, 1));
    }

    /// A stored run is only repeatable while these numbers do not change.
    #[test]
    fn streams_do_not_change_between_versions() {
        let mut rng = Rng::for_sample(KEY, Purpose::Mask, 3);
        let drawn = [rng.next_u64(), rng.next_u64(), rng.next_u64()];
        assert_eq!(
            drawn,
            [
                9_195_307_874_224_353_503,
                4_371_222_550_918_701_280,
                9_729_474_279_188_800_035
            ]
        );
        let mut rng = Rng::for_name(7, Purpose::Init, "blocks.0.weight");
        let drawn = [rng.next_u64(), rng.next_u64()];
        assert_eq!(
            drawn,
            [4_450_553_998_791_514_768, 5_989_258_719_949_846_290]
        );
    }

    #[test]
    fn moments_match_the_distributions() {
        let mut rng = Rng::for_sample(KEY, Purpose::Order, 0);
        let n = 200_000_u32;
        let mean_and_variance = |draws: &[f64]| {
            let mean = draws.iter().sum::<f64>() / f64::from(n);
            (
                mean,
                draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / f64::from(n),
            )
        };
        let uniform: Vec<f64> = (0..n).map(|_| rng.range(2.0, 4.0)).collect();
        assert!(uniform.iter().all(|x| (2.0..4.0).contains(x)));
        let (mean, variance) = mean_and_variance(&uniform);
        assert!((mean - 3.0).abs() < 0.006 && (variance - 4.0 / 12.0).abs() < 0.004);
        let normal: Vec<f64> = (0..n).map(|_| rng.normal()).collect();
        let (mean, variance) = mean_and_variance(&normal);
        assert!(mean.abs() < 0.011 && (variance - 1.0).abs() < 0.016);
        let beyond_two = normal.iter().filter(|x| x.abs() > 2.0).count() as f64 / f64::from(n);
        assert!((beyond_two - 0.0455).abs() < 0.0024);
        let neighbours: f64 = normal.windows(2).map(|w| w[0] * w[1]).sum::<f64>() / f64::from(n);
        assert!(neighbours.abs() < 0.012);
    }

    #[test]
    fn below_is_uniform_and_in_range() {
        let mut rng = Rng::for_sample(KEY, Purpose::Order, 1);
        let mut counts = [0_f64; 7];
        for _ in 0..70_000 {
            counts[rng.below(7)] += 1.0;
        }
        let chi_squared: f64 = counts
            .iter()
            .map(|n| (n - 10_000.0).powi(2) / 10_000.0)
            .sum();
        assert!(chi_squared < 27.9, "{counts:?}"); // 6 degrees of freedom, p = 1e-4.
        assert_eq!(rng.below(1), 0);
        // Four inputs for three numbers: without rejection every third comes twice as often.
        let thirds = (0..30_000)
            .filter(|_| rng.below(3 << 62).is_multiple_of(3))
            .count();
        assert!(
            (thirds as f64 / 30_000.0 - 1.0 / 3.0).abs() < 0.0137,
            "{thirds}"
        );
    }

    #[test]
    fn shuffle_is_uniform() {
        let mut rng = Rng::for_sample(KEY, Purpose::Order, 2);
        let mut counts = std::collections::BTreeMap::new();
        for _ in 0..24_000 {
            let mut items = [0, 1, 2, 3];
            rng.shuffle(&mut items);
            *counts.entry(items).or_insert(0_f64) += 1.0;
        }
        assert_eq!(counts.len(), 24);
        let chi_squared: f64 = counts.values().map(|n| (n - 1000.0).powi(2) / 1000.0).sum();
        assert!(chi_squared < 57.0, "{chi_squared}"); // 23 degrees of freedom, p = 1e-4.
    }
}
