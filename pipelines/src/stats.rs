//! Counts, times and queue levels of each stage, and a one-line verdict on what limits the pipeline.

mod record;

use serde::Serialize;

use crate::store::TrafficCounts;

pub(crate) use record::{Recorder, WaitFor};

/// Counts and times of a pipeline since it started.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stats {
    /// Seconds since the pipeline started.
    pub elapsed_secs: f64,
    /// Good samples in batches.
    pub samples: u64,
    /// Rows found bad, each counted once.
    pub bad_samples: u64,
    /// Rows found too short for training, in a dataset without a column of lengths.
    pub short_samples: u64,
    /// Micro-batches finished, whether or not the trainer has taken them.
    pub batches: u64,
    /// Bytes of row groups fetched.
    pub bytes_read: u64,
    /// Requests to the store and their bytes; all 0 for local datasets.
    pub traffic: TrafficCounts,
    /// Threads of the CPU pool.
    pub n_threads: usize,
    /// Cores of this machine.
    pub n_cores: usize,
    /// Read, decode, transform, mask and collate, in this order.
    pub stages: Vec<StageStats>,
    /// Fetched row groups, samples and batches, in this order.
    pub queues: Vec<QueueStats>,
    /// Time that the next batch waited for each cause.
    pub waits: Waits,
}

/// Counts and times of one stage.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StageStats {
    /// `read`, `decode`, `transform`, `mask` or `collate`.
    pub name: &'static str,
    /// Number of runs.
    pub count: u64,
    /// Number of runs that failed.
    pub failures: u64,
    /// Seconds spent, over all threads.
    pub busy_secs: f64,
    /// Median of one run, in seconds, within 7 %.
    pub p50_secs: f64,
    /// 99th percentile of one run, in seconds, within 7 %.
    pub p99_secs: f64,
}

/// Level of one queue between stages.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct QueueStats {
    /// `row groups` (in bytes), `samples` or `batches`.
    pub name: &'static str,
    /// Maximum level: bytes for `row groups`, else a count.
    pub capacity: u64,
    /// Mean level over time.
    pub mean_len: f64,
    /// Seconds in which the queue was full and more would have come.
    pub full_secs: f64,
    /// Seconds that its consumers waited for it.
    pub empty_secs: f64,
}

/// Seconds that the next batch waited, by cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Waits {
    /// Seconds in which a row group was not read yet.
    pub storage_secs: f64,
    /// Seconds in which a sample was in the CPU pool.
    pub cpu_secs: f64,
    /// Seconds in which the trainer had not taken the batches that were ready.
    pub trainer_secs: f64,
}

impl Stats {
    /// Returns good samples per second.
    pub fn samples_per_sec(&self) -> f64 {
        self.samples as f64 / self.elapsed_secs.max(1e-9)
    }

    /// Returns one line that names what limits the pipeline and what would help.
    ///
    /// Percentages are of the time that the next batch waited. The gain of one more core assumes
    /// that the CPU pool's share shrinks with the number of threads, up to what storage can feed.
    pub fn verdict(&self) -> String {
        let Waits {
            storage_secs,
            cpu_secs,
            trainer_secs,
        } = self.waits;
        let wait_secs = storage_secs + cpu_secs + trainer_secs;
        if self.samples == 0 || wait_secs <= 0.0 {
            return "no verdict: the trainer has not waited for a batch yet".into();
        }
        let share = |secs: f64| 100.0 * secs / wait_secs;
        let elapsed_secs = self.elapsed_secs.max(wait_secs);
        let faster = |without_secs: f64| elapsed_secs / (elapsed_secs - without_secs).max(1e-3);
        let storage_feeds = elapsed_secs / self.reading_secs().clamp(1e-6, elapsed_secs);
        let storage_could_feed = if storage_feeds < 100.0 {
            format!("{storage_feeds:.1}×")
        } else {
            "over 100×".to_owned()
        };

        if trainer_secs >= cpu_secs && trainer_secs >= storage_secs {
            return format!(
                "trainer-bound: {:.0} % of the wait was for the trainer to take a batch; the \
                 pipeline could feed {:.1}×, storage {storage_could_feed}",
                share(trainer_secs),
                faster(trainer_secs),
            );
        }
        if storage_secs >= cpu_secs {
            return format!(
                "storage-bound: reading row groups {:.0} % of the wait; {} would give up to +{:.0} %",
                share(storage_secs),
                self.storage_advice(),
                100.0 * (faster(storage_secs) - 1.0),
            );
        }
        let [decode, transform, mask] =
            ["decode", "transform", "mask"].map(|name| self.stage(name));
        let busy_secs = decode.busy_secs + transform.busy_secs + mask.busy_secs;
        let mut slowest = decode;
        for stage in [transform, mask] {
            if slowest.busy_secs < stage.busy_secs {
                slowest = stage;
            }
        }
        let work = match slowest.name {
            "decode" => "decoding",
            "transform" => "crops, resampling and colours",
            _ => "drawing masks",
        };
        let one_more = if self.n_threads < self.n_cores {
            "thread"
        } else {
            "core"
        };
        let gain = faster(cpu_secs / (self.n_threads + 1) as f64).min(storage_feeds);
        format!(
            "{}-bound: {work} {:.0} % of the wait; one more {one_more} would give +{:.0} %; \
             storage could feed {storage_could_feed}",
            slowest.name,
            share(cpu_secs) * slowest.busy_secs / busy_secs.max(1e-9),
            100.0 * (gain - 1.0),
        )
    }

    /// Returns the differences to earlier statistics of the same pipeline. Medians and percentiles are
    /// still those since its start.
    #[must_use]
    pub fn since(&self, earlier: &Stats) -> Stats {
        let mut now = self.clone();
        now.elapsed_secs -= earlier.elapsed_secs;
        now.samples -= earlier.samples;
        now.bad_samples -= earlier.bad_samples;
        now.short_samples -= earlier.short_samples;
        now.batches -= earlier.batches;
        now.bytes_read -= earlier.bytes_read;
        now.traffic = now.traffic.with(earlier.traffic, u64::saturating_sub);
        for (now, earlier) in now.stages.iter_mut().zip(&earlier.stages) {
            now.count -= earlier.count;
            now.failures -= earlier.failures;
            now.busy_secs -= earlier.busy_secs;
        }
        let elapsed_secs = now.elapsed_secs.max(1e-9);
        for (now, then) in now.queues.iter_mut().zip(&earlier.queues) {
            let level_secs =
                now.mean_len * self.elapsed_secs - then.mean_len * earlier.elapsed_secs;
            now.mean_len = level_secs / elapsed_secs;
            now.full_secs -= then.full_secs;
            now.empty_secs -= then.empty_secs;
        }
        now.waits.storage_secs -= earlier.waits.storage_secs;
        now.waits.cpu_secs -= earlier.waits.cpu_secs;
        now.waits.trainer_secs -= earlier.waits.trainer_secs;
        now
    }

    /// Returns what would help a pipeline that waits for storage.
    fn storage_advice(&self) -> String {
        let TrafficCounts {
            requests,
            bytes,
            refusals,
            timeouts,
            cache_misses,
            ..
        } = self.traffic;
        let groups = self.queues.iter().find(|queue| queue.name == "row groups");
        if requests == 0 {
            return "a faster disk, or more `memory` to read ahead,".to_owned();
        }
        if refusals * 50 > requests {
            return format!(
                "the store refuses {:.0} % of the requests (429, 503): fewer readers or a higher quota",
                100.0 * refusals as f64 / requests as f64
            );
        }
        if timeouts * 100 > requests {
            return format!(
                "{timeouts} of {requests} requests timed out and were retried; a faster network"
            );
        }
        if groups.is_some_and(|groups| groups.full_secs > 0.5 * self.waits.storage_secs) {
            return "`memory` was full, which stopped reading ahead: more `memory`".to_owned();
        }
        let megabytes = bytes as f64 / 1e6 / self.elapsed_secs.max(1e-9);
        let cache = match cache_misses {
            0 => ", or `data.cache` from the second epoch on,",
            _ => ", or the cache in the next epoch,",
        };
        format!("the store gives {megabytes:.1} MB/s: a faster store or network{cache}")
    }

    fn stage(&self, name: &str) -> &StageStats {
        let found = self.stages.iter().find(|stage| stage.name == name);
        found.expect("every pipeline has all the stages")
    }

    /// Returns the seconds in which at least one read was in progress.
    fn reading_secs(&self) -> f64 {
        self.stage("read").busy_secs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(waits: Waits, busy: [(&'static str, f64); 5]) -> Stats {
        let stages = busy.map(|(name, busy_secs)| StageStats {
            name,
            count: 10,
            failures: 0,
            busy_secs,
            p50_secs: 0.1,
            p99_secs: 0.2,
        });
        Stats {
            elapsed_secs: 10.0,
            samples: 100,
            bad_samples: 0,
            short_samples: 0,
            batches: 10,
            bytes_read: 1000,
            traffic: TrafficCounts::default(),
            n_threads: 2,
            n_cores: 2,
            stages: stages.into(),
            queues: vec![QueueStats {
                name: "row groups",
                capacity: 100,
                mean_len: 50.0,
                full_secs: 0.0,
                empty_secs: 0.0,
            }],
            waits,
        }
    }

    const BUSY: [(&str, f64); 5] = [
        ("read", 2.5),
        ("decode", 16.0),
        ("transform", 3.0),
        ("mask", 1.0),
        ("collate", 0.1),
    ];

    #[test]
    fn verdict_names_the_slowest_stage_and_what_one_more_core_gives() {
        // 9 of 10 seconds wait for two threads: three would need 6, so 7 in all, 10 / 7 = +43 %.
        let waits = Waits {
            storage_secs: 0.5,
            cpu_secs: 9.0,
            trainer_secs: 0.0,
        };
        assert_eq!(
            stats(waits, BUSY).verdict(),
            "decode-bound: decoding 76 % of the wait; one more core would give +43 %; \
             storage could feed 4.0×"
        );
        // Storage can feed no more than a quarter above: that caps the gain.
        let mut busy = BUSY;
        busy[0].1 = 8.0;
        assert!(
            stats(waits, busy)
                .verdict()
                .contains("one more core would give +25 %")
        );
    }

    #[test]
    fn verdict_names_the_problem_of_a_store() {
        let waits = Waits {
            storage_secs: 5.0,
            cpu_secs: 1.0,
            trainer_secs: 0.0,
        };
        let mut stats = stats(waits, BUSY);
        assert!(stats.verdict().contains("a faster disk"));
        stats.traffic.requests = 100;
        stats.traffic.bytes = 50_000_000;
        assert!(
            stats.verdict().contains("gives 5.0 MB/s"),
            "{}",
            stats.verdict()
        );
        stats.queues[0].full_secs = 4.0;
        assert!(stats.verdict().contains("`memory` was full"));
        stats.traffic.timeouts = 2;
        assert!(stats.verdict().contains("2 of 100 requests timed out"));
        stats.traffic.refusals = 10;
        assert!(stats.verdict().contains("refuses 10 % of the requests"));
    }

    #[test]
    fn verdict_since_ignores_earlier_waits() {
        let before = Waits {
            storage_secs: 9.0,
            cpu_secs: 0.5,
            trainer_secs: 0.0,
        };
        let then = stats(before, BUSY);
        let mut now = then.clone();
        now.elapsed_secs = 20.0;
        now.samples = 300;
        now.waits.trainer_secs = 8.0;
        assert!(now.verdict().starts_with("storage-bound"));
        let since = now.since(&then);
        assert_eq!((since.elapsed_secs, since.samples), (10.0, 200));
        assert!(since.verdict().starts_with("trainer-bound: 100 %"));
    }

    #[test]
    fn verdict_distinguishes_storage_and_trainer() {
        let storage = Waits {
            storage_secs: 5.0,
            cpu_secs: 4.0,
            trainer_secs: 0.0,
        };
        let text = stats(storage, BUSY).verdict();
        assert!(
            text.starts_with("storage-bound: reading row groups 56 % of the wait"),
            "{text}"
        );
        assert!(text.ends_with("up to +100 %"), "{text}");
        let trainer = Waits {
            storage_secs: 0.0,
            cpu_secs: 1.0,
            trainer_secs: 8.0,
        };
        let text = stats(trainer, BUSY).verdict();
        assert!(
            text.starts_with("trainer-bound: 89 % of the wait"),
            "{text}"
        );
        assert!(text.contains("could feed 5.0×, storage 4.0×"), "{text}");
        assert!(
            stats(Waits::default(), BUSY)
                .verdict()
                .starts_with("no verdict")
        );
    }
}
