//! Shards in, batches out: stages on threads, order restored.
//!
//! ```text
//!             tokio's threads          CPU pool                    order thread
//! plan ─> windows ─> row groups ─> hash, decode, crop, … ─> lanes in order ─> batches ─> you
//! ```
//!
//! The order thread (`scheduler.rs`) is the only one that knows the whole. It asks for row groups
//! (`fetch.rs`), hands rows to the pool (`worker.rs`) and fills batches (`collate.rs`); all that comes
//! back to it is an `Event`. The stream of batches depends on plan and seed alone.
//!
//! Pictures leave the pool as they go into a batch. Recordings and texts get their length from the
//! others of their micro-batch, one lane's share of one step; so a batch of them is cropped or
//! padded, and its masks are drawn, once all its samples are there.

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
use self::build::{Opened, Pass, check, collator, largest_groups_bytes, start};
pub use self::build::{Planned, plan};
use self::fetch::{GroupKey, Source};
pub use self::one_pass::WholeSet;
use self::worker::{Outcome, Task, Work};
use crate::batch::Batch;
use crate::config::{DataConfig, StepSize};
use crate::plan::{BadRows, Costs};
use crate::shard::{Mixture, Rows};
use crate::stats::{Recorder, Stats};
use crate::tokenize::SpecialTokens;
use crate::{Error, Result};

/// What a run adds to its recipe.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which of the `world` pipelines this is.
    pub rank: usize,
    /// Pipelines that share the set: each carries `lanes / world` of the lanes.
    pub world: usize,
    /// Micro-batches that this rank's lanes are joined into; divides `lanes / world`. Recordings and
    /// texts of different lengths are not joined: there it is `lanes / world`.
    pub parts_per_step: usize,
    /// The first step to deliver.
    pub start_step: u64,
    /// Bad rows met before `start_step`, from [`Pipeline::bad_rows`] of all ranks. More do no harm.
    pub bad_rows: Vec<u64>,
    /// Likewise rows that were too short, from [`Pipeline::short_rows`].
    pub short_rows: Vec<u64>,
    /// Threads of the CPU pool. The order thread and two for I/O come on top.
    pub threads: usize,
    /// Parts that are finished before they are asked for.
    pub prefetch: usize,
    /// A file of JSON lines that bad samples are added to.
    pub quarantine: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            rank: 0,
            world: 1,
            parts_per_step: 1,
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
/// there are no more batches. The batch last handed out counts towards `memory` until the next one
/// is asked for. Dropping the pipeline ends its threads, waiting for no more than the pictures and
/// reads that they are at.
#[derive(Debug)]
pub struct Pipeline {
    sets: Arc<Mixture>,
    fingerprint: u64,
    specials: Option<SpecialTokens>,
    vocabulary_sha256: Option<String>,
    recorder: Arc<Recorder>,
    bad_rows: BadRowList,
    events: Sender<Event>,
    batches: Receiver<Result<Batch>>,
    stop: Arc<AtomicBool>,
    /// The order thread, which ends all others.
    thread: Option<JoinHandle<()>>,
    holds_batch: bool,
}

/// What the order thread is told.
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
    /// The trainer has given up a batch.
    Returned,
    /// Nobody wants any more batches.
    Stop,
}

impl Pipeline {
    /// Starts the endless stream of masked training batches of `config.train`.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] with all problems of settings, [`Error::Budget`] if `memory` cannot hold
    /// what the settings ask for, and what opening a set can give.
    pub fn train(config: &DataConfig, options: &Options) -> Result<Pipeline> {
        Self::train_with(config, options, Work::sample)
    }

    /// The training stream with other work for the CPU pool, so that tests can make it fail.
    fn train_with(
        config: &DataConfig,
        options: &Options,
        sample: impl Fn(&Work, &Task) -> Outcome + Send + Sync + 'static,
    ) -> Result<Pipeline> {
        check(config, options)?;
        let step = config.step_size().expect("a config without problems");
        let opened = Opened::open(&config.train, config)?;
        let plan = opened.plan(config, step)?;
        let bad_rows = BadRowList::new(&options.bad_rows, &options.short_rows);
        let known: BadRows = bad_rows.rows().into_iter().collect();
        let n_lanes = config.lanes / options.world;
        let first_lane = options.rank * n_lanes;
        if !opened.recipe.joins_lanes() && options.parts_per_step != n_lanes {
            return Err(Error::Config(vec![format!(
                "{} parts per step (`train.micro_batches` of a recipe), but samples of different \
                 lengths come lane by lane: it must be {n_lanes}, as many as this rank has lanes",
                options.parts_per_step
            )]));
        }
        let sets = opened.sets.datasets().iter();
        let largest: Vec<u64> = sets
            .map(|set| largest_groups_bytes(set, config.window_chunks))
            .collect();
        let lanes = first_lane..first_lane + n_lanes;
        let sources = plan
            .lanes(lanes.clone(), options.start_step, &known)?
            .into_iter()
            .zip(largest.iter().cycle())
            .map(|(stream, &largest_window_bytes)| Source {
                windows: Box::new(stream.map(|window| window.slots)),
                largest_window_bytes,
            })
            .collect();
        let n_planned = (0..plan.mix().n_datasets()).map(|set| plan.n_planned_of(set));
        let mean_lane_samples = match (plan.lane_share(), plan.costs()) {
            (StepSize::Samples(samples), _) => samples as u64,
            (StepSize::Cost(share), costs) => share / costs.map_or(1, Costs::mean),
        };
        let n_good_before = options.start_step * config.lanes as u64 * mean_lane_samples;
        let Opened {
            sets,
            recipe,
            runtime,
            fingerprint,
        } = opened;
        let collator = collator(config, options, &Arc::new(recipe), &plan);
        let pass = Pass {
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
        start((sets, fingerprint, runtime), pass, config, options, sample)
    }

    /// Starts one pass over the set at `url`, each good row once and in the order of the files, with
    /// labels and without masks, in batches of `batch`: centre crops of pictures, whole recordings
    /// and the beginnings of texts, padded to the longest of a batch.
    ///
    /// With several ranks, every `world`-th batch of rows is this rank's. `start_step`,
    /// `parts_per_step` and `bad_rows` of the options belong to training and are not used.
    ///
    /// # Errors
    ///
    /// As [`Pipeline::train`].
    pub fn evaluate(
        config: &DataConfig,
        url: &str,
        batch: usize,
        options: &Options,
    ) -> Result<Pipeline> {
        WholeSet::open(config, url, batch, options.world)?.labelled(options)
    }

    /// Waits until [`Iterator::next`] would return at once, for at most so long; whether it would.
    /// The batch last handed out is given up as `next` does.
    pub fn ready_within(&mut self, timeout: Duration) -> bool {
        self.give_back();
        let start = Instant::now();
        let mut select = Select::new();
        select.recv(&self.batches);
        let is_ready = select.ready_timeout(timeout).is_ok();
        self.recorder
            .next_nanos
            .fetch_add(start.elapsed().as_nanos() as u64, Relaxed);
        is_ready
    }

    fn give_back(&mut self) {
        if std::mem::take(&mut self.holds_batch) {
            // If the order thread has ended, what it left in the channel needs no credit.
            let _ended = self.events.send(Event::Returned);
        }
    }

    /// Identifies the rows of the set, see [`Dataset::fingerprint`](crate::shard::Dataset::fingerprint);
    /// of a mix, those of all its sets and their shares. A run resumes on no other.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Names of the classes, in the order of the labels' numbers; of a mix, where all sets have the
    /// same.
    pub fn classes(&self) -> Option<&[String]> {
        self.sets.classes()
    }

    /// What the ids of texts mean, as a set of tokens or the vocabulary of the recipe says; `None`
    /// for other media.
    pub fn specials(&self) -> Option<SpecialTokens> {
        self.specials
    }

    /// SHA-256, in hex, of the files of the vocabulary that texts are in; `None` for other media.
    /// Another vocabulary has another, and so has the same one in files of another form.
    pub fn vocabulary_sha256(&self) -> Option<&str> {
        self.vocabulary_sha256.as_deref()
    }

    /// Rows of all sets, bad ones included.
    pub fn rows(&self) -> u64 {
        self.sets.rows()
    }

    /// What has been done so far.
    pub fn stats(&self) -> Stats {
        Stats {
            traffic: self.sets.traffic(),
            ..self.recorder.snapshot()
        }
    }

    /// The bad rows met so far, sorted: at least those that the batches handed out stepped over.
    /// With those that are too short and the step they are all that [`Options`] needs to go on
    /// exactly.
    pub fn bad_rows(&self) -> Vec<u64> {
        self.bad_rows.bad()
    }

    /// How many rows [`Pipeline::bad_rows`] and [`Pipeline::short_rows`] are together: as long as
    /// there are no more of them, they are the same.
    pub fn n_left_out(&self) -> usize {
        self.bad_rows.len()
    }

    /// Likewise the rows that were too short for training, and are no fault: recordings of a set
    /// without a column of lengths, which a plan would have left out.
    pub fn short_rows(&self) -> Vec<u64> {
        self.bad_rows.short()
    }
}

impl Iterator for Pipeline {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Result<Batch>> {
        self.give_back();
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
            // The order thread has ended: after an error, at the end of a pass, or by a panic.
            Err(_) => match self.thread.take()?.join() {
                Ok(()) => None,
                Err(panic) => Some(Err(panic_error("order", panic.as_ref()))),
            },
        }
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        let _ended = self.events.send(Event::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic there has nobody left to go to.
            let _panicked = thread.join();
        }
    }
}

/// What the system said when it was asked for a thread.
fn io_error(what: &str, source: std::io::Error) -> Error {
    Error::Io {
        path: what.into(),
        source,
    }
}

fn panic_error(stage: &'static str, panic: &(dyn Any + Send)) -> Error {
    let message = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    Error::Panic { stage, message }
}
