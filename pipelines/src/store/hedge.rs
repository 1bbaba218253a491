//! When a read is late, and how many may be sent a second time.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Reads that are remembered, and how many there must be before any is called late.
const REMEMBERED: usize = 64;
const ENOUGH: usize = 16;
/// What a request costs beside its bytes, as bytes: reads of all sizes are compared by it.
const REQUEST_BYTES: u64 = 512 << 10;
/// A read is late after so many times what nine of ten take.
const LATE: f64 = 3.0;
const LEAST_LATE: Duration = Duration::from_millis(500);
/// Of a hundred reads so many may be sent twice: a store that is slow as a whole must not get more
/// to do.
const HEDGES_PER_HUNDRED: u64 = 10;
/// At once: each may hold another range in memory.
const HEDGES_AT_ONCE: usize = 2;

/// How long reads took.
#[derive(Debug, Default)]
pub(super) struct Reads(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    /// Seconds per byte of the last reads, requests counted as bytes.
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

    /// After how long a read of so many bytes is late; none while too little is known.
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

/// A second read under way.
#[derive(Debug)]
pub(super) struct Hedge<'a>(&'a Reads);

impl<'a> Hedge<'a> {
    /// None if there are too many.
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
    fn a_read_is_late_by_what_its_like_take() {
        let reads = Reads::default();
        for _ in 0..ENOUGH {
            assert_eq!(reads.late(1 << 20), None, "too little is known");
            reads.add(8 << 20, Duration::from_secs(1));
        }
        let late = reads.late(8 << 20).expect("enough is known");
        assert!((late.as_secs_f64() - LATE).abs() < 1e-6, "{late:?}");
        assert_eq!(reads.late(0), Some(LEAST_LATE));
    }

    #[test]
    fn few_reads_are_sent_twice() {
        let reads = Reads::default();
        let hedges: Vec<_> = (0..5).map_while(|_| Hedge::begin(&reads)).collect();
        assert_eq!(hedges.len(), 1, "one in none is more than a tenth");
        drop(hedges);
        for _ in 0..100 {
            reads.add(1, Duration::from_secs(1));
        }
        let hedges: Vec<_> = (0..5).map_while(|_| Hedge::begin(&reads)).collect();
        assert_eq!(hedges.len(), HEDGES_AT_ONCE);
        drop(hedges);
        let n = (0..100).filter(|_| Hedge::begin(&reads).is_some()).count();
        assert_eq!(n + 3, 11, "a tenth of a hundred, and the one over");
    }
}
