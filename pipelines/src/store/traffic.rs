//! What went over the wire to a store, counted.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What went over the wire to one store.
#[derive(Debug, Default)]
pub struct Traffic {
    pub(super) requests: AtomicU64,
    pub(super) answers: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) refusals: AtomicU64,
    pub(super) silences: AtomicU64,
    pub(super) repeats: AtomicU64,
    pub(super) hedges: AtomicU64,
}

/// [`Traffic`] at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct TrafficCounts {
    /// HTTP requests sent.
    pub requests: u64,
    /// Bytes of answers received.
    pub bytes: u64,
    /// Answers that said "later": 408, 429 and 5xx.
    pub refusals: u64,
    /// Requests given up because nothing moved.
    pub silences: u64,
    /// Operations tried again.
    pub repeats: u64,
    /// Reads sent a second time because the first was slow.
    pub hedges: u64,
    /// Ranges that the local cache had.
    pub cache_hits: u64,
    /// Ranges that it did not have.
    pub cache_misses: u64,
}

impl TrafficCounts {
    /// Combines two counts, number by number.
    #[must_use]
    pub(crate) fn with(self, other: Self, f: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            requests: f(self.requests, other.requests),
            bytes: f(self.bytes, other.bytes),
            refusals: f(self.refusals, other.refusals),
            silences: f(self.silences, other.silences),
            repeats: f(self.repeats, other.repeats),
            hedges: f(self.hedges, other.hedges),
            cache_hits: f(self.cache_hits, other.cache_hits),
            cache_misses: f(self.cache_misses, other.cache_misses),
        }
    }
}

impl Traffic {
    /// What went over the wire so far.
    pub fn counts(&self) -> TrafficCounts {
        TrafficCounts {
            requests: self.requests.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            refusals: self.refusals.load(Relaxed),
            silences: self.silences.load(Relaxed),
            repeats: self.repeats.load(Relaxed),
            hedges: self.hedges.load(Relaxed),
            cache_hits: 0,
            cache_misses: 0,
        }
    }
}
