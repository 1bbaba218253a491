//! The counters behind [`Stats`], cheap enough to be updated for every sample.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{QueueStats, StageStats, Stats, Waits};
use crate::store::TrafficCounts;

/// All counters of one pipeline, shared by its threads.
#[derive(Debug)]
pub(crate) struct Recorder {
    start: Instant,
    n_threads: usize,
    pub(crate) read: Stage,
    pub(crate) decode: Stage,
    pub(crate) transform: Stage,
    pub(crate) mask: Stage,
    pub(crate) collate: Stage,
    /// Reads in progress, for the time in which there was at least one.
    pub(crate) reads: Level,
    /// Bytes of row groups held.
    pub(crate) groups: Level,
    /// Samples in the pool or waiting for their turn.
    pub(crate) in_flight: Level,
    /// Finished batches that the trainer has not taken.
    pub(crate) ready: Level,
    pub(crate) samples: AtomicU64,
    pub(crate) bad_samples: AtomicU64,
    pub(crate) short_samples: AtomicU64,
    pub(crate) batches: AtomicU64,
    pub(crate) bytes_read: AtomicU64,
    /// Nanoseconds waited, indexed by [`WaitFor`].
    waits: [AtomicU64; 3],
    /// Nanoseconds that callers of `next` waited.
    pub(crate) next_nanos: AtomicU64,
}

/// The cause that the next batch waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitFor {
    Storage = 0,
    Cpu = 1,
    Trainer = 2,
}

impl Recorder {
    pub(crate) fn new(
        n_threads: usize,
        windows_bytes: u64,
        n_samples: usize,
        n_ready: usize,
    ) -> Self {
        Self {
            start: Instant::now(),
            n_threads,
            read: Stage::new("read"),
            decode: Stage::new("decode"),
            transform: Stage::new("transform"),
            mask: Stage::new("mask"),
            collate: Stage::new("collate"),
            reads: Level::new("reads", u64::MAX),
            groups: Level::new("row groups", windows_bytes),
            in_flight: Level::new("samples", n_samples as u64),
            ready: Level::new("batches", n_ready as u64),
            samples: AtomicU64::new(0),
            bad_samples: AtomicU64::new(0),
            short_samples: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            bytes_read: AtomicU64::new(0),
            waits: Default::default(),
            next_nanos: AtomicU64::new(0),
        }
    }

    pub(crate) fn waited(&self, what: WaitFor, time: Duration) {
        self.waits[what as usize].fetch_add(nanos(time), Relaxed);
    }

    pub(crate) fn snapshot(&self) -> Stats {
        let elapsed_secs = self.start.elapsed().as_secs_f64();
        let [storage_secs, cpu_secs, trainer_secs] =
            [0, 1, 2].map(|i: usize| secs(self.waits[i].load(Relaxed)));
        let stages: Vec<StageStats> = [
            &self.read,
            &self.decode,
            &self.transform,
            &self.mask,
            &self.collate,
        ]
        .map(Stage::snapshot)
        .into();
        // The time that the threads did not spend in their stages, they waited for a sample.
        let busy_secs: f64 = stages[1..4].iter().map(|stage| stage.busy_secs).sum();
        let idle_secs = (elapsed_secs - busy_secs / self.n_threads as f64).max(0.0);
        let mut stats = Stats {
            elapsed_secs,
            samples: self.samples.load(Relaxed),
            bad_samples: self.bad_samples.load(Relaxed),
            short_samples: self.short_samples.load(Relaxed),
            batches: self.batches.load(Relaxed),
            bytes_read: self.bytes_read.load(Relaxed),
            traffic: TrafficCounts::default(),
            n_threads: self.n_threads,
            n_cores: std::thread::available_parallelism().map_or(1, usize::from),
            stages,
            queues: vec![
                self.groups.snapshot(elapsed_secs, storage_secs),
                self.in_flight.snapshot(elapsed_secs, idle_secs),
                self.ready
                    .snapshot(elapsed_secs, secs(self.next_nanos.load(Relaxed))),
            ],
            waits: Waits {
                storage_secs,
                cpu_secs,
                trainer_secs,
            },
        };
        // Reads overlap, so the sum of their times does not show how long storage was busy.
        stats.stages[0].busy_secs = self.reads.busy_secs();
        stats
    }
}

/// Counters of one stage.
#[derive(Debug)]
pub(crate) struct Stage {
    name: &'static str,
    failures: AtomicU64,
    busy_nanos: AtomicU64,
    /// Eight buckets per power of two, in nanoseconds.
    histogram: Box<[AtomicU64]>,
}

const BUCKETS: usize = 62 * 8;

impl Stage {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            failures: AtomicU64::new(0),
            busy_nanos: AtomicU64::new(0),
            histogram: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Counts one run of the stage.
    pub(crate) fn record(&self, time: Duration, failed: bool) {
        let time = nanos(time);
        self.busy_nanos.fetch_add(time, Relaxed);
        self.histogram[bucket(time)].fetch_add(1, Relaxed);
        self.failures.fetch_add(u64::from(failed), Relaxed);
    }

    fn snapshot(&self) -> StageStats {
        let counts: Vec<u64> = self.histogram.iter().map(|n| n.load(Relaxed)).collect();
        let count = counts.iter().sum();
        StageStats {
            name: self.name,
            count,
            failures: self.failures.load(Relaxed),
            busy_secs: secs(self.busy_nanos.load(Relaxed)),
            p50_secs: quantile(&counts, count, 0.50),
            p99_secs: quantile(&counts, count, 0.99),
        }
    }
}

fn bucket(nanos: u64) -> usize {
    if nanos < 8 {
        return nanos as usize;
    }
    let octave = nanos.ilog2() as usize;
    (octave - 2) * 8 + (nanos >> (octave - 3) & 7) as usize
}

/// Returns the middle of a bucket, in seconds.
fn bucket_secs(bucket: usize) -> f64 {
    if bucket < 8 {
        return bucket as f64 * 1e-9;
    }
    let octave = bucket / 8 + 2;
    let step = ((octave - 3) as f64).exp2();
    ((8 + bucket % 8) as f64 + 0.5) * step * 1e-9
}

fn quantile(counts: &[u64], total: u64, share: f64) -> f64 {
    let rank = (total as f64 * share).ceil().max(1.0) as u64;
    let mut seen = 0;
    let reached = counts.iter().position(|&count| {
        seen += count;
        seen >= rank
    });
    reached.map_or(0.0, bucket_secs)
}

/// The level of a queue over time.
#[derive(Debug)]
pub(crate) struct Level {
    name: &'static str,
    capacity: u64,
    now: Mutex<LevelState>,
}

#[derive(Debug)]
struct LevelState {
    len: u64,
    full: bool,
    since: Instant,
    len_secs: f64,
    busy_secs: f64,
    full_secs: f64,
}

impl LevelState {
    fn pass(&mut self) {
        let now = Instant::now();
        let secs = (now - self.since).as_secs_f64();
        self.since = now;
        self.len_secs += self.len as f64 * secs;
        self.busy_secs += if self.len > 0 { secs } else { 0.0 };
        self.full_secs += if self.full { secs } else { 0.0 };
    }
}

impl Level {
    fn new(name: &'static str, capacity: u64) -> Self {
        let since = Instant::now();
        let now = LevelState {
            len: 0,
            full: false,
            since,
            len_secs: 0.0,
            busy_secs: 0.0,
            full_secs: 0.0,
        };
        Self {
            name,
            capacity,
            now: Mutex::new(now),
        }
    }

    /// Sets the level; `full` is true if the queue would have got more with more room.
    pub(crate) fn set(&self, len: u64, full: bool) {
        let mut now = self.lock();
        if (now.len, now.full) != (len, full) {
            now.pass();
            (now.len, now.full) = (len, full);
        }
    }

    /// Changes the level by `by`; the queue is full at its capacity.
    pub(crate) fn change(&self, by: i64) {
        let mut now = self.lock();
        now.pass();
        now.len = now.len.saturating_add_signed(by);
        now.full = now.len >= self.capacity;
    }

    fn busy_secs(&self) -> f64 {
        let mut now = self.lock();
        now.pass();
        now.busy_secs
    }

    fn snapshot(&self, elapsed_secs: f64, empty_secs: f64) -> QueueStats {
        let mut now = self.lock();
        now.pass();
        QueueStats {
            name: self.name,
            capacity: self.capacity,
            mean_len: now.len_secs / elapsed_secs.max(1e-9),
            full_secs: now.full_secs,
            empty_secs,
        }
    }

    /// Locks the level. A panic of another thread cannot leave it invalid.
    fn lock(&self) -> std::sync::MutexGuard<'_, LevelState> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn secs(nanos: u64) -> f64 {
    nanos as f64 * 1e-9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_within_seven_percent() {
        let mut last = 0;
        for exponent in 0..400 {
            let value = 1.09_f64.powi(exponent) as u64;
            let bucket = bucket(value);
            assert!(bucket >= last && bucket < BUCKETS, "{value}");
            last = bucket;
            let error = (bucket_secs(bucket) * 1e9 - value as f64).abs();
            assert!(
                error <= 0.07 * value as f64 + 0.5,
                "{value}: off by {error}"
            );
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_come_from_the_counts() {
        let mut counts = vec![0; BUCKETS];
        counts[bucket(1_000)] = 98;
        counts[bucket(1_000_000)] = 2;
        let near = |found: f64, expected: f64| (found / expected - 1.0).abs() < 0.07;
        assert!(near(quantile(&counts, 100, 0.50), 1e-6));
        assert!(near(quantile(&counts, 100, 0.99), 1e-3));
        assert_eq!(quantile(&[0; 4], 0, 0.5).to_bits(), 0.0_f64.to_bits());
    }

    #[test]
    fn level_counts_the_time_it_was_full() {
        let level = Level::new("samples", 2);
        level.change(1);
        level.change(1);
        let before = level.snapshot(1.0, 0.0);
        assert!(before.mean_len > 0.0 && level.snapshot(1.0, 0.0).full_secs > before.full_secs);
        level.change(-2);
        let after = level.snapshot(1.0, 0.0);
        assert_eq!(
            level.snapshot(1.0, 0.0).full_secs.to_bits(),
            after.full_secs.to_bits()
        );
    }
}
