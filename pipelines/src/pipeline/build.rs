//! Opens datasets, divides the memory and starts the threads.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crossbeam_channel::bounded;
use tokio::runtime::Runtime;

use super::bad_log::{BadLog, BadRowList};
use super::collate::Collator;
use super::fetch::{Fetcher, Reader, StreamSource};
use super::sample_kind::{SampleKind, at_rate, kinds};
use super::scheduler::{RowQueue, Scheduler, Turns};
use super::worker::{Outcome, Task, Worker, start_pool};
use super::{Options, Pipeline, io_error};
use crate::budget::{DecodeShare, Needs, Shares};
use crate::config::{DataConfig, StepSize, TrainSets, parse_bytes};
use crate::plan::{Costs, Layout, Mix, Plan, PlanConfig, RankMemory};
use crate::quarantine::Quarantine;
use crate::shard::{Dataset, Kind, Mixture};
use crate::stats::Recorder;
use crate::{Error, Result};

/// Open datasets, the kind of their samples, and the threads that read them.
pub(super) struct Opened {
    pub(super) mixture: Arc<Mixture>,
    pub(super) kind: SampleKind,
    pub(super) runtime: Runtime,
    /// Fingerprint of the dataset, or of a mixture's datasets and shares.
    pub(super) fingerprint: u64,
}

impl Opened {
    pub(super) fn open(train: &TrainSets, config: &DataConfig) -> Result<Opened> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("shards-io")
            .enable_all()
            .build()
            .map_err(|source| io_error("the I/O threads", source))?;
        let kinds = config.modality().map_or(Kind::ALL.as_slice(), kinds);
        let options = config.store_options().map_err(|e| Error::Config(vec![e]))?;
        let mut datasets = Vec::new();
        for url in train.urls() {
            let open = Dataset::open_with(url, kinds, &config.columns, &options);
            datasets.push(runtime.block_on(open)?);
        }
        let fingerprints: Vec<u64> = datasets.iter().map(Dataset::fingerprint).collect();
        let mixture = Arc::new(Mixture::new(datasets)?);
        let kind = SampleKind::of(config, &mixture)?;
        Ok(Opened {
            mixture,
            kind,
            runtime,
            fingerprint: train.fingerprint(&fingerprints),
        })
    }

    /// Builds the plan of a training run over these datasets.
    pub(super) fn plan(&self, config: &DataConfig, step: StepSize) -> Result<Plan> {
        let step = self.kind.step(step, config.lanes);
        let costs = match step {
            StepSize::Samples(_) => None,
            StepSize::Cost(_) => {
                let mut costs = Costs::empty(self.kind.max_cost());
                let read = self
                    .mixture
                    .read_lengths(|length| costs.push(self.kind.cost(length)));
                self.runtime.block_on(read)?;
                Some(costs)
            }
        };
        let layout = Layout::joined(self.mixture.datasets().iter().map(Layout::of));
        let shares = config.train.shares();
        Plan::mixed(layout, PlanConfig::of(config, step), costs, &shares)
    }

    /// Raises the limit on an utterance's length to the longest one of the dataset, if the dataset has
    /// a column of lengths. An evaluation pass does not crop audio.
    pub(super) fn allow_longest_audio(&mut self) -> Result<()> {
        let SampleKind::Audio { config, max_frames } = &mut self.kind else {
            return Ok(());
        };
        if self.mixture.has_lengths() {
            // One more than the column's value: resampling may round up.
            let frames = |length| at_rate(length, config.sample_rate_hz) as u32 + 1;
            let mut longest = 0;
            let read = self
                .mixture
                .read_lengths(|length| longest = longest.max(frames(length)));
            self.runtime.block_on(read)?;
            *max_frames = longest as usize;
        }
        Ok(())
    }
}

/// Returns the most bytes that a window of `n_chunks` chunks can take: each chunk may be in another
/// row group.
pub(super) fn largest_groups_bytes(dataset: &Dataset, n_chunks: usize) -> u64 {
    let groups = dataset.shards.iter().flat_map(|shard| &shard.groups);
    let mut bytes: Vec<u64> = groups.map(|group| group.memory).collect();
    bytes.sort_unstable_by(|a, b| b.cmp(a));
    bytes.iter().take(n_chunks).sum()
}

/// The settings in which a training stream and an evaluation pass differ.
pub(super) struct RunSpec {
    /// This rank's lanes among those of all ranks.
    pub(super) lanes: Range<usize>,
    /// The dataset of each sample of a lane.
    pub(super) mix: Mix,
    /// One source for each lane and dataset, lane by lane.
    pub(super) sources: Vec<StreamSource>,
    /// Rows that the lanes take from each dataset.
    pub(super) n_planned: Vec<u64>,
    /// Good samples of the steps before, over all ranks; an estimate if samples differ in cost.
    pub(super) n_good_before: u64,
    pub(super) collator: Collator,
    pub(super) bad_rows: BadRowList,
    /// Whether samples have labels and no masks, and are not cropped at random.
    pub(super) evaluate: bool,
    /// Whether samples have keys instead of labels.
    pub(super) keyed: bool,
}

/// A training run before it starts.
#[derive(Debug)]
pub struct Planned {
    /// The open datasets that the plan is over.
    pub mixture: Arc<Mixture>,
    /// The order of their samples in every lane.
    pub plan: Plan,
    /// The same value as [`Pipeline::fingerprint`].
    pub fingerprint: u64,
    /// Memory that each rank needs for every possible number of ranks, with one thread per core.
    pub memory: Vec<RankMemory>,
}

/// Opens the datasets of a training run and builds its plan, without starting it.
///
/// # Errors
///
/// Returns the errors of [`Pipeline::train`], except that `memory` may be too small.
pub fn plan(config: &DataConfig) -> Result<Planned> {
    let problems = config.problems();
    let (Some(step), true) = (config.step_size(), problems.is_empty()) else {
        return Err(Error::Config(problems));
    };
    let opened = Opened::open(&config.train, config)?;
    let plan = opened.plan(config, step)?;
    let fingerprint = opened.fingerprint;
    let mixture = Arc::clone(&opened.mixture);
    let lane_bytes = mixture.datasets().iter();
    let lane_bytes = lane_bytes
        .map(|dataset| largest_groups_bytes(dataset, config.window_chunks))
        .sum();
    let kind = Arc::new(opened.kind);
    let worlds = (1..=config.lanes).filter(|world| config.lanes.is_multiple_of(*world));
    let memory = worlds.map(|world| {
        let n_lanes = config.lanes / world;
        let options = Options {
            world,
            micro_batches_per_step: if kind.joins_lanes() { 1 } else { n_lanes },
            ..Options::default()
        };
        let needs = needs(
            &collator(config, &options, &kind, &plan),
            &options,
            lane_bytes,
            n_lanes,
        );
        RankMemory {
            world,
            least_bytes: needs.least_bytes(),
            ahead_bytes: needs.ahead_bytes(),
        }
    });
    Ok(Planned {
        memory: memory.collect(),
        fingerprint,
        mixture,
        plan,
    })
}

/// Builds the collator of a training run.
pub(super) fn collator(
    config: &DataConfig,
    options: &Options,
    kind: &Arc<SampleKind>,
    plan: &Plan,
) -> Collator {
    let lane_share = plan.lane_share();
    let max_lane_samples = match (lane_share, plan.costs()) {
        (StepSize::Samples(samples), _) => samples,
        (StepSize::Cost(share), costs) => {
            let shortest = costs.map_or(1, Costs::shortest);
            (share / u64::from(shortest)).min(plan.n_planned()) as usize
        }
    };
    Collator {
        kind: Arc::clone(kind),
        mask: Some(config.mask),
        seed: config.seed,
        lane_share,
        max_lane_samples,
        lanes_per_micro_batch: config.lanes / options.world / options.micro_batches_per_step,
        n_micro_batches: options.micro_batches_per_step,
        next_step: options.start_step,
        next_micro_batch: 0,
    }
}

/// Returns the memory that a rank needs. `lane_bytes` is the size of one lane's largest windows, one
/// for each dataset.
fn needs(collator: &Collator, options: &Options, lane_bytes: u64, n_lanes: usize) -> Needs {
    let least_samples = collator.least_samples() as u64;
    Needs {
        micro_batch_bytes: collator.micro_batch_bytes() as u64,
        n_micro_batches: credits(options) as u64,
        sample_bytes: collator.sample_bytes() as u64,
        least_samples,
        // Samples differ in cost: some slack, so that no thread is idle behind a slow one.
        n_samples: least_samples - 1 + 8 * options.threads as u64,
        window_bytes: lane_bytes,
        n_lanes: n_lanes as u64,
    }
}

/// Returns the number of batches in memory at once: those that are ready, one that is being filled and
/// one that the trainer holds.
fn credits(options: &Options) -> usize {
    options.prefetch + 2
}

/// Returns all invalid settings in one error.
pub(super) fn check(config: &DataConfig, options: &Options) -> Result<()> {
    let mut problems = config.problems();
    let Options {
        rank,
        world,
        micro_batches_per_step,
        threads,
        ..
    } = *options;
    let mut check = |holds: bool, problem: String| {
        if !holds {
            problems.push(problem);
        }
    };
    check(
        rank < world,
        format!("rank {rank} of {world}: ranks count from 0"),
    );
    check(
        world > 0 && config.lanes.is_multiple_of(world),
        format!("{world} ranks do not divide data.lanes = {}", config.lanes),
    );
    let rank_lanes = config.lanes / world.max(1);
    check(
        micro_batches_per_step > 0 && rank_lanes.is_multiple_of(micro_batches_per_step),
        format!(
            "{micro_batches_per_step} micro-batches do not divide the {rank_lanes} lanes of a rank"
        ),
    );
    check(threads > 0, "threads: must be at least 1".to_owned());
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Error::Config(problems))
    }
}

/// Divides the memory among the stages and starts the threads.
pub(super) fn start(
    (mixture, fingerprint, runtime): (Arc<Mixture>, u64, Runtime),
    spec: RunSpec,
    config: &DataConfig,
    options: &Options,
    sample: impl Fn(&Worker, &Task) -> Outcome + Send + Sync + 'static,
) -> Result<Pipeline> {
    let RunSpec {
        lanes,
        mix,
        sources,
        n_planned,
        n_good_before,
        collator,
        bad_rows,
        evaluate,
        keyed,
    } = spec;
    let memory_bytes = parse_bytes(&config.memory).map_err(|reason| Error::Config(vec![reason]))?;
    // A lane holds a window of each dataset.
    let of_lane = sources.iter().take(mix.n_datasets());
    let lane_bytes = of_lane.map(|source| source.largest_window_bytes).sum();
    let needs = needs(&collator, options, lane_bytes, lanes.len());
    let shares = Shares::divide(memory_bytes, &needs)?;
    let credits = credits(options);

    let recorder = Arc::new(Recorder::new(
        options.threads,
        shares.windows_bytes,
        shares.n_samples,
        options.prefetch,
    ));
    let log = BadLog {
        mixture: Arc::clone(&mixture),
        rows: bad_rows.clone(),
        quarantine: options.quarantine.as_deref().map(Quarantine::new),
        max_bad_fraction: config.max_bad_fraction,
        n_planned,
        leaves_out_short: !evaluate,
        n_failed: bad_rows.bad().len() as u64,
        n_good_before,
        last: "found before this run was resumed, see its quarantine file".to_owned(),
    };
    // A run that ended because of its bad samples must not continue when it is resumed.
    log.judge(&recorder)?;

    let (events, events_in) = bounded(1024);
    let (tasks, tasks_in) = bounded(shares.n_samples);
    // Room for an error behind the last batch.
    let (batches, batches_in) = bounded(credits + 1);
    let stop = Arc::new(AtomicBool::new(false));

    let worker = Worker {
        mixture: Arc::clone(&mixture),
        kind: Arc::clone(&collator.kind),
        mask: config.mask,
        seed: config.seed,
        limits: config.limits,
        evaluate,
        keyed,
        share: DecodeShare::new(&shares),
        recorder: Arc::clone(&recorder),
    };
    let special_tokens = collator.kind.special_tokens();
    let vocabulary_sha256 = collator.kind.vocabulary_sha256().map(str::to_owned);
    let process = Arc::new(move |task: &Task| sample(&worker, task));
    let pool = start_pool(options.threads, &tasks_in, &events, &stop, &process)?;
    drop(tasks_in);

    let scheduler = Scheduler {
        streams: sources.iter().map(|_| RowQueue::default()).collect(),
        turns: Turns {
            mix,
            lanes,
            lane_share: collator.lane_share,
            lane_idx: 0,
            n_dispatched: 0,
            step: collator.next_step,
        },
        fetcher: Fetcher::new(
            sources,
            shares.windows_bytes,
            Reader::new(
                Arc::clone(&mixture),
                runtime.handle().clone(),
                events.clone(),
                Arc::clone(&recorder),
            ),
        ),
        collator,
        filling: None,
        credits,
        n_samples: shares.n_samples,
        in_flight: 0,
        replacing: VecDeque::new(),
        retries: BTreeMap::new(),
        bad: bad_rows.rows(),
        log,
        tasks,
        batches,
        recorder: Arc::clone(&recorder),
        ended: false,
    };
    let stop_pool = Arc::clone(&stop);
    let thread = std::thread::Builder::new()
        .name("shards-sched".into())
        .spawn(move || {
            scheduler.run(&events_in);
            // With no receiver of events, a thread of the pool ends after its current sample.
            // Dropping the runtime waits for running reads.
            drop(events_in);
            stop_pool.store(true, Relaxed);
            for thread in pool {
                let _panicked = thread.join();
            }
            drop(runtime);
        })
        .map_err(|source| io_error("the scheduler's thread", source))?;
    let thread = Some(thread);
    Ok(Pipeline {
        mixture,
        fingerprint,
        special_tokens,
        vocabulary_sha256,
        recorder,
        bad_rows,
        events,
        batches: batches_in,
        stop,
        thread,
        holds_batch: false,
    })
}
