//! Hedged reads: when a read is late, and how many can be sent a second time.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Number of durations kept, and the minimum before any read counts as late.
const REMEMBERED: usize = 64;
const ENOUGH: usize = 16;
/// Fixed cost of a request in bytes. It makes reads of all sizes comparable.
const REQUEST_BYTES: u64 = 512 << 10;
/// A read is late after this multiple of the 90th percentile.
const LATE: f64 = 3.0;
const LEAST_LATE: Duration = Duration::from_millis(500);
/// Maximum share of hedged reads, in percent: a store that is slow for all reads must not get more
/// load.
const HEDGES_PER_HUNDRED: u64 = 10;
/// Maximum of concurrent hedges: each can hold another range in memory.
const HEDGES_AT_ONCE: usize = 2;

/// Durations of the last reads.
#[derive(Debug, Default)]
pub(super) struct Reads(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    /// Seconds per byte of the last reads, with [`REQUEST_BYTES`] added.
    secs_per_byte: VecDeque<f64>,
    n_reads: u64,
    n_hedges: u64,
    n_hedging: usize,
}

impl Reads {
    pub(super) fn add(&self, bytes: u64, took: Duration) {
        let mut seen = self.seen();
        seen.n_reads += 1;
        if seen.secs_per_byte.len() == REMEMBERED {
            seen.secs_per_byte.pop_front();
        }
        let secs_per_byte = took.as_secs_f64() / (bytes + REQUEST_BYTES) as f64;
        seen.secs_per_byte.push_back(secs_per_byte);
    }

    /// Returns the time after which a read of `bytes` is late; `None` before [`ENOUGH`] reads.
    pub(super) fn late(&self, bytes: u64) -> Option<Duration> {
        let mut sorted: Vec<f64> = self.seen().secs_per_byte.iter().copied().collect();
        if sorted.len() < ENOUGH {
            return None;
        }
        sorted.sort_unstable_by(f64::total_cmp);
        let usual = sorted[sorted.len() * 9 / 10] * (bytes + REQUEST_BYTES) as f64;
        Some(Duration::from_secs_f64(usual * LATE).max(LEAST_LATE))
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A hedged read in progress.
#[derive(Debug)]
pub(super) struct Hedge<'a>(&'a Reads);

impl<'a> Hedge<'a> {
    /// Returns `None` if too many reads are hedged.
    pub(super) fn begin(reads: &'a Reads) -> Option<Self> {
        let mut seen = reads.seen();
        let too_many = seen.n_hedges * 100 > seen.n_reads * HEDGES_PER_HUNDRED;
        if too_many || seen.n_hedging == HEDGES_AT_ONCE {
            return None;
        }
        seen.n_hedges += 1;
        seen.n_hedging += 1;
        Some(Self(reads))
    }
}

impl Drop for Hedge<'_> {
    fn drop(&mut self) {
        self.0.seen().n_hedging -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_scales_with_the_size_of_a_read() {
        let reads = Reads::default();
        for _ in 0..ENOUGH {
            assert_eq!(reads.late(1 << 20), None, "too few reads");
            reads.add(8 << 20, Duration::from_secs(1));
        }
        let late = reads.late(8 << 20).expect("enough reads");
        assert!((late.as_secs_f64() - LATE).abs() < 1e-6, "{late:?}");
        assert_eq!(reads.late(0), Some(LEAST_LATE));
    }

    #[test]
    fn hedges_are_limited_in_share_and_number() {
        let reads = Reads::default();
        let hedges: Vec<_> = (0..5).map_while(|_| Hedge::begin(&reads)).collect();
        assert_eq!(hedges.len(), 1, "one of zero reads is more than a tenth");
        drop(hedges);
        for _ in 0..100 {
            reads.add(1, Duration::from_secs(1));
        }
        let hedges: Vec<_> = (0..5).map_while(|_| Hedge::begin(&reads)).collect();
        assert_eq!(hedges.len(), HEDGES_AT_ONCE);
        drop(hedges);
        let n = (0..100).filter(|_| Hedge::begin(&reads).is_some()).count();
        assert_eq!(
            n + 3,
            11,
            "a tenth of a hundred, and the one that exceeds it"
        );
    }
}
