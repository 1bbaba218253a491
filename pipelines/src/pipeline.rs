//! The training stream: shards in, batches out, decoded on threads and put back in order.
//!
//! ```text
//!             tokio's threads          CPU pool                    scheduler
//! plan ─> windows ─> row groups ─> hash, decode, crop, … ─> lanes in order ─> batches ─> trainer
//! ```
//!
//! The scheduler's thread (`scheduler.rs`) holds all the state. It requests row groups (`fetch.rs`),
//! dispatches rows to the CPU pool (`worker.rs`) and fills batches (`collate.rs`); the other threads
//! answer with an `Event`. The order of the batches depends on the plan and the seed alone.
//!
//! Images leave the pool in their final shape. Audio and text get their length from the other samples
//! of their micro-batch, which is one lane's share of one step. So the scheduler crops or pads such a
//! micro-batch, and draws its masks, once all its samples are there.

mod bad_log;
mod build;
mod collate;
mod fetch;
mod one_pass;
mod sample_kind;
mod scheduler;
#[cfg(test)]
mod tests;
mod worker;

use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Select, Sender};

use self::bad_log::BadRowList;
use self::build::{Opened, RunSpec, check, collator, largest_groups_bytes, start};
pub use self::build::{Planned, plan};
use self::fetch::{GroupKey, StreamSource};
pub use self::one_pass::OnePass;
use self::worker::{Outcome, Task, Worker};
use crate::batch::Batch;
use crate::config::{DataConfig, StepSize};
use crate::plan::{BadRows, Costs};
use crate::shard::{Mixture, Rows};
use crate::stats::{Recorder, Stats};
use crate::tokenize::SpecialTokens;
use crate::{Error, Result};

/// Settings of one pipeline that are not in the config: rank, start of the run, threads.
#[derive(Debug, Clone)]
pub struct Options {
    /// Number of this pipeline among the `world` pipelines, from 0.
    pub rank: usize,
    /// Pipelines that share the dataset. Each reads `lanes / world` of the lanes.
    pub world: usize,
    /// Micro-batches that this rank's lanes are joined into; divides `lanes / world`. Audio and texts
    /// of different lengths are not joined: for them it must be `lanes / world`.
    pub micro_batches_per_step: usize,
    /// The first step to deliver.
    pub start_step: u64,
    /// Bad rows found before `start_step`, from [`Pipeline::bad_rows`] of all ranks. Rows found later
    /// may be among them.
    pub bad_rows: Vec<u64>,
    /// Rows found too short before `start_step`, from [`Pipeline::short_rows`] of all ranks.
    pub short_rows: Vec<u64>,
    /// Threads of the CPU pool. The scheduler's thread and two for I/O are not counted.
    pub threads: usize,
    /// Micro-batches that are finished ahead of the trainer.
    pub prefetch: usize,
    /// File to which bad samples are appended as JSON lines.
    pub quarantine: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            rank: 0,
            world: 1,
            micro_batches_per_step: 1,
            start_step: 0,
            bad_rows: Vec::new(),
            short_rows: Vec::new(),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            prefetch: 2,
            quarantine: None,
        }
    }
}

/// A running pipeline: a blocking iterator over batches.
///
/// A training pipeline never ends; an evaluation pass ends after each row came once. After an error
/// there are no more batches. The last batch returned counts towards `memory` until the next one is
/// requested. Dropping the pipeline ends its threads; it waits only for the samples and reads that
/// are in progress.
#[derive(Debug)]
pub struct Pipeline {
    mixture: Arc<Mixture>,
    fingerprint: u64,
    special_tokens: Option<SpecialTokens>,
    vocabulary_sha256: Option<String>,
    recorder: Arc<Recorder>,
    bad_rows: BadRowList,
    events: Sender<Event>,
    batches: Receiver<Result<Batch>>,
    stop: Arc<AtomicBool>,
    /// The scheduler's thread, which ends all others.
    thread: Option<JoinHandle<()>>,
    holds_batch: bool,
}

/// A message to the scheduler.
#[derive(Debug)]
enum Event {
    /// A read has ended.
    Group {
        key: GroupKey,
        result: Result<Arc<Rows>>,
    },
    /// A row has left the CPU pool.
    Sample {
        stream_idx: usize,
        number: u64,
        outcome: Outcome,
    },
    /// The trainer has released a batch.
    Released,
    /// The pipeline was dropped.
    Stop,
}

impl Pipeline {
    /// Starts the endless stream of masked training batches of `config.train`.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] with all invalid settings, [`Error::Budget`] if `memory` is too small for the
    /// settings, and every error of opening a dataset.
    pub fn train(config: &DataConfig, options: &Options) -> Result<Pipeline> {
        Self::train_with(config, options, Worker::sample)
    }

    /// Starts the training stream with another function for the CPU pool, so that tests can make it
    /// fail.
    fn train_with(
        config: &DataConfig,
        options: &Options,
        sample: impl Fn(&Worker, &Task) -> Outcome + Send + Sync + 'static,
    ) -> Result<Pipeline> {
        check(config, options)?;
        let step = config.step_size().expect("a config without problems");
        let opened = Opened::open(&config.train, config)?;
        let plan = opened.plan(config, step)?;
        let bad_rows = BadRowList::new(&options.bad_rows, &options.short_rows);
        let known: BadRows = bad_rows.rows().into_iter().collect();
        let n_lanes = config.lanes / options.world;
        let first_lane = options.rank * n_lanes;
        if !opened.kind.joins_lanes() && options.micro_batches_per_step != n_lanes {
            return Err(Error::Config(vec![format!(
                "{} micro-batches per step (`train.micro_batches`), but samples of different lengths \
                 are not joined across lanes: it must be {n_lanes}, this rank's number of lanes",
                options.micro_batches_per_step
            )]));
        }
        let datasets = opened.mixture.datasets().iter();
        let largest: Vec<u64> = datasets
            .map(|dataset| largest_groups_bytes(dataset, config.window_chunks))
            .collect();
        let lanes = first_lane..first_lane + n_lanes;
        let sources = plan
            .lanes(lanes.clone(), options.start_step, &known)?
            .into_iter()
            .zip(largest.iter().cycle())
            .map(|(stream, &largest_window_bytes)| StreamSource {
                windows: Box::new(stream.map(|window| window.slots)),
                largest_window_bytes,
            })
            .collect();
        let n_planned = (0..plan.mix().n_datasets()).map(|dataset| plan.n_planned_of(dataset));
        let mean_lane_samples = match (plan.lane_share(), plan.costs()) {
            (StepSize::Samples(samples), _) => samples as u64,
            (StepSize::Cost(share), costs) => share / costs.map_or(1, Costs::mean),
        };
        let n_good_before = options.start_step * config.lanes as u64 * mean_lane_samples;
        let Opened {
            mixture,
            kind,
            runtime,
            fingerprint,
        } = opened;
        let collator = collator(config, options, &Arc::new(kind), &plan);
        let spec = RunSpec {
            mix: plan.mix().clone(),
            lanes,
            sources,
            n_planned: n_planned.collect(),
            n_good_before,
            collator,
            bad_rows,
            evaluate: false,
            keyed: false,
        };
        start(
            (mixture, fingerprint, runtime),
            spec,
            config,
            options,
            sample,
        )
    }

    /// Starts one pass over the dataset at `url`: each good row once, in the order of the files, with
    /// labels and without masks, in batches of `batch` samples. Images are cropped at their centre,
    /// audio is not cropped, and texts keep their beginning; a batch is padded to its longest sample.
    ///
    /// With several ranks, this rank gets every `world`-th batch of rows. `start_step`,
    /// `micro_batches_per_step` and `bad_rows` of the options belong to training and are not used.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Pipeline::train`].
    pub fn evaluate(
        config: &DataConfig,
        url: &str,
        batch: usize,
        options: &Options,
    ) -> Result<Pipeline> {
        OnePass::open(config, url, batch, options.world)?.labelled(options)
    }

    /// Waits for at most `timeout` until [`Iterator::next`] would return at once, and returns whether
    /// it would. Releases the last batch, as `next` does.
    pub fn ready_within(&mut self, timeout: Duration) -> bool {
        self.release_batch();
        let start = Instant::now();
        let mut select = Select::new();
        select.recv(&self.batches);
        let is_ready = select.ready_timeout(timeout).is_ok();
        self.recorder
            .next_nanos
            .fetch_add(start.elapsed().as_nanos() as u64, Relaxed);
        is_ready
    }

    /// Tells the scheduler that the memory of the last batch is free.
    fn release_batch(&mut self) {
        if std::mem::take(&mut self.holds_batch) {
            // If the scheduler has ended, the batches left in the channel need no credit.
            let _ended = self.events.send(Event::Released);
        }
    }

    /// Returns a hash that identifies the rows of the dataset, see
    /// [`Dataset::fingerprint`](crate::shard::Dataset::fingerprint); for a mixture it covers all its
    /// datasets and their shares. A run resumes only on data of the same fingerprint.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Returns the names of the classes in the order of their numbers; `None` without labels, or if the
    /// datasets of a mixture differ in them.
    pub fn classes(&self) -> Option<&[String]> {
        self.mixture.classes()
    }

    /// Returns the special tokens of the vocabulary that texts are in: that of the config, or that of
    /// a dataset of tokens. `None` for images and audio.
    pub fn special_tokens(&self) -> Option<SpecialTokens> {
        self.special_tokens
    }

    /// Returns the SHA-256, in hex, of the vocabulary's files; `None` for images and audio. The same
    /// vocabulary stored in another file format has another hash.
    pub fn vocabulary_sha256(&self) -> Option<&str> {
        self.vocabulary_sha256.as_deref()
    }

    /// Returns the number of rows of all datasets, bad ones included.
    pub fn rows(&self) -> u64 {
        self.mixture.rows()
    }

    /// Returns counts, times and queue levels since the start.
    pub fn stats(&self) -> Stats {
        Stats {
            traffic: self.mixture.traffic(),
            ..self.recorder.snapshot()
        }
    }

    /// Returns the bad rows found so far, sorted: at least those that the returned batches skipped.
    /// Together with [`Pipeline::short_rows`] and the step they are all that [`Options`] needs to
    /// resume with exactly the next batch.
    pub fn bad_rows(&self) -> Vec<u64> {
        self.bad_rows.bad()
    }

    /// Returns the number of bad rows and short rows. Rows are only ever added, so that both lists are
    /// unchanged as long as this number is.
    pub fn n_left_out(&self) -> usize {
        self.bad_rows.len()
    }

    /// Returns the rows found too short for training so far, sorted. They are not bad: they are audio
    /// of a dataset without a column of lengths, with which the plan would have left them out.
    pub fn short_rows(&self) -> Vec<u64> {
        self.bad_rows.short()
    }
}

impl Iterator for Pipeline {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Result<Batch>> {
        self.release_batch();
        let start = Instant::now();
        let received = self.batches.recv();
        self.recorder
            .next_nanos
            .fetch_add(start.elapsed().as_nanos() as u64, Relaxed);
        match received {
            Ok(Ok(batch)) => {
                self.recorder.ready.change(-1);
                self.holds_batch = true;
                Some(Ok(batch))
            }
            Ok(Err(error)) => Some(Err(error)),
            // The scheduler has ended: after an error, at the end of a pass, or by a panic.
            Err(_) => match self.thread.take()?.join() {
                Ok(()) => None,
                Err(panic) => Some(Err(panic_error("scheduler", panic.as_ref()))),
            },
        }
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        let _ended = self.events.send(Event::Stop);
        if let Some(thread) = self.thread.take() {
            // No receiver is left for the message of a panic.
            let _panicked = thread.join();
        }
    }
}

/// Returns the error of a thread that the system could not start.
fn io_error(what: &str, source: std::io::Error) -> Error {
    Error::Io {
        path: what.into(),
        source,
    }
}

/// Returns a panic's message as an error.
fn panic_error(stage: &'static str, panic: &(dyn Any + Send)) -> Error {
    let message = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    Error::Panic { stage, message }
}
