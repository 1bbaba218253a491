//! Measures the throughput of a training stream per stage, and finds the stage that limits it.

use std::fmt;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::config::{DataConfig, Modality};
use crate::pipeline::{Options, Pipeline};
use crate::stats::{QueueStats, StageStats, Stats};
use crate::{Error, Result};

/// Result of a benchmark of a training stream.
#[derive(Debug, Clone, Serialize)]
pub struct BenchReport {
    /// Good samples per second of wall time.
    pub samples_per_sec: f64,
    /// Bytes of row groups fetched per second of wall time.
    pub bytes_per_sec: f64,
    /// CPU time of the process per 1,000 samples, including all threads and the start.
    pub cpu_secs_per_1000_samples: f64,
    /// Peak memory of the process minus its memory before the first read; absent on systems without
    /// `/proc`.
    pub peak_memory_bytes: Option<u64>,
    /// Seconds from before the dataset is opened to the first batch.
    pub first_batch_secs: f64,
    /// The stage that limits the throughput, and what would help; see [`Stats::verdict`].
    pub verdict: String,
    /// Counts and times that the verdict is based on.
    pub stats: Stats,
}

/// Reads training batches for `time`, and at least one.
///
/// # Errors
///
/// Returns the errors of [`Pipeline::train`], and every error that ends the stream.
pub fn run(config: &DataConfig, options: &Options, time: Duration) -> Result<BenchReport> {
    let memory_before = memory_bytes("VmRSS:");
    let cpu_before = cpu_time();
    let start = Instant::now();
    let options = Options {
        micro_batches_per_step: micro_batches_per_step(config, options),
        ..options.clone()
    };
    let mut pipeline = Pipeline::train(config, &options)?;
    let mut first_batch_secs = None;
    while start.elapsed() < time || first_batch_secs.is_none() {
        let batch = pipeline.next().unwrap_or_else(|| Err(ended()))?;
        first_batch_secs.get_or_insert_with(|| start.elapsed().as_secs_f64());
        drop(batch);
    }
    let stats = pipeline.stats();
    let cpu_secs = cpu_time().saturating_sub(cpu_before).as_secs_f64();
    let peak_memory_bytes = memory_bytes("VmHWM:")
        .zip(memory_before)
        .map(|(peak, before)| peak.saturating_sub(before));
    Ok(BenchReport {
        samples_per_sec: stats.samples_per_sec(),
        bytes_per_sec: stats.bytes_read as f64 / stats.elapsed_secs,
        cpu_secs_per_1000_samples: 1000.0 * cpu_secs / stats.samples as f64,
        peak_memory_bytes,
        first_batch_secs: first_batch_secs.unwrap_or_default(),
        verdict: stats.verdict(),
        stats,
    })
}

/// Returns the micro-batches per step: as many as lanes for audio and text, which are not joined.
fn micro_batches_per_step(config: &DataConfig, options: &Options) -> usize {
    match config.modality() {
        Some(Modality::Audio | Modality::Text) => config.lanes / options.world.max(1),
        _ => options.micro_batches_per_step,
    }
}

fn ended() -> Error {
    Error::Panic {
        stage: "scheduler",
        message: "a training stream ended without an error".into(),
    }
}

impl fmt::Display for BenchReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stats = &self.stats;
        writeln!(
            f,
            "{:.1} samples/s, {:.1} MB/s read, {:.2} CPU-seconds per 1,000 samples\n\
             first batch after {:.0} ms, peak memory {}\n\
             {} samples in {:.1} s on {} threads, {} bad, {} too short\n",
            self.samples_per_sec,
            self.bytes_per_sec / 1e6,
            self.cpu_secs_per_1000_samples,
            self.first_batch_secs * 1e3,
            self.peak_memory_bytes
                .map_or("unknown".into(), |bytes| format!(
                    "{:.0} MiB",
                    bytes as f64 / 1_048_576.0
                )),
            stats.samples,
            stats.elapsed_secs,
            stats.n_threads,
            stats.bad_samples,
            stats.short_samples,
        )?;
        writeln!(
            f,
            "stage           count  failures   busy s    p50 ms    p99 ms"
        )?;
        for StageStats {
            name,
            count,
            failures,
            busy_secs,
            p50_secs,
            p99_secs,
        } in &stats.stages
        {
            let (p50, p99) = (p50_secs * 1e3, p99_secs * 1e3);
            writeln!(
                f,
                "{name:<11} {count:>9} {failures:>9} {busy_secs:>8.2} {p50:>9.3} {p99:>9.3}"
            )?;
        }
        writeln!(
            f,
            "\nqueue        capacity   occupied   full s  waited for s"
        )?;
        for QueueStats {
            name,
            capacity,
            mean_len,
            full_secs,
            empty_secs,
        } in &stats.queues
        {
            let occupied = 100.0 * mean_len / (*capacity).max(1) as f64;
            writeln!(
                f,
                "{name:<11} {capacity:>9} {occupied:>8.0} % {full_secs:>8.2} {empty_secs:>13.2}"
            )?;
        }
        let traffic = &stats.traffic;
        if traffic.requests > 0 {
            writeln!(
                f,
                "\n{} requests, {:.1} MB; {} refused, {} timed out, {} operations retried, \
                 {} reads hedged; cache: {} of {} ranges",
                traffic.requests,
                traffic.bytes as f64 / 1e6,
                traffic.refusals,
                traffic.timeouts,
                traffic.retries,
                traffic.hedges,
                traffic.cache_hits,
                traffic.cache_hits + traffic.cache_misses,
            )?;
        }
        write!(f, "\n{}", self.verdict)
    }
}

/// Returns the CPU time of all threads of this process so far.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Reads a value of Linux's `/proc/self/status`, in bytes.
fn memory_bytes(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib << 10)
}
