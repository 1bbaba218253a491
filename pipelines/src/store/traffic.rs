//! Counters of the requests to a store.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters of one store, shared by its clients.
#[derive(Debug, Default)]
pub struct Traffic {
    pub(super) requests: AtomicU64,
    #[cfg(feature = "http")]
    pub(super) answers: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) refusals: AtomicU64,
    pub(super) timeouts: AtomicU64,
    pub(super) retries: AtomicU64,
    pub(super) hedges: AtomicU64,
}

/// A snapshot of [`Traffic`], with the hits and misses of the cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct TrafficCounts {
    /// HTTP requests sent.
    pub requests: u64,
    /// Bytes of response bodies received.
    pub bytes: u64,
    /// Responses with a status that is worth a retry: 408, 429 and 5xx.
    pub refusals: u64,
    /// Requests aborted because they made no progress.
    pub timeouts: u64,
    /// Operations retried.
    pub retries: u64,
    /// Reads sent a second time because the first was slow.
    pub hedges: u64,
    /// Ranges found in the local cache.
    pub cache_hits: u64,
    /// Ranges not found in the local cache.
    pub cache_misses: u64,
}

impl TrafficCounts {
    /// Applies `f` to each pair of counts.
    #[must_use]
    pub(crate) fn with(self, other: Self, f: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            requests: f(self.requests, other.requests),
            bytes: f(self.bytes, other.bytes),
            refusals: f(self.refusals, other.refusals),
            timeouts: f(self.timeouts, other.timeouts),
            retries: f(self.retries, other.retries),
            hedges: f(self.hedges, other.hedges),
            cache_hits: f(self.cache_hits, other.cache_hits),
            cache_misses: f(self.cache_misses, other.cache_misses),
        }
    }
}

impl Traffic {
    /// Returns the counts so far; those of the cache are 0.
    pub fn counts(&self) -> TrafficCounts {
        TrafficCounts {
            requests: self.requests.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            refusals: self.refusals.load(Relaxed),
            timeouts: self.timeouts.load(Relaxed),
            retries: self.retries.load(Relaxed),
            hedges: self.hedges.load(Relaxed),
            cache_hits: 0,
            cache_misses: 0,
        }
    }
}
