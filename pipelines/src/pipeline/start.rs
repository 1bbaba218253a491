//! Opens a set, divides the memory and starts the threads.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crossbeam_channel::bounded;
use tokio::runtime::Runtime;

use super::collate::Collator;
use super::fetch::{Fetcher, Reader, Windows};
use super::order::{Lane, Order, Turns};
use super::recipe::{Recipe, at_rate, kinds};
use super::work::{Outcome, Task, Work, start_pool};
use super::{Options, Pipeline, io_error};
use crate::budget::{DecodeShare, Needs, Shares, parse_bytes};
use crate::config::{DataConfig, StepSize};
use crate::plan::{Costs, Layout, Plan, PlanConfig};
use crate::quarantine::{BadLog, BadRowList, Quarantine};
use crate::shard::{Kind, ShardSet};
use crate::stats::Recorder;
use crate::{Error, Result};

/// A set, what becomes of its rows, and the threads that read it.
pub(super) struct Opened {
    pub(super) set: Arc<ShardSet>,
    pub(super) recipe: Recipe,
    pub(super) runtime: Runtime,
}

impl Opened {
    pub(super) fn open(url: &str, config: &DataConfig) -> Result<Opened> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("shards-io")
            .enable_all()
            .build()
            .map_err(|source| io_error("the I/O threads", source))?;
        let kinds = config.modality().map_or(Kind::ALL.as_slice(), kinds);
        let options = config.store_options().map_err(|e| Error::Config(vec![e]))?;
        let open = ShardSet::open_with(url, kinds, &config.columns, &options);
        let set = Arc::new(runtime.block_on(open)?);
        let recipe = Recipe::of(config, &set)?;
        Ok(Opened {
            set,
            recipe,
            runtime,
        })
    }

    /// The plan of a training run over this set.
    pub(super) fn plan(&self, config: &DataConfig, step: StepSize) -> Result<Plan> {
        let step = self.recipe.step(step, config.lanes);
        let costs = match step {
            StepSize::Samples(_) => None,
            StepSize::Cost(_) => {
                let read = self.set.read_costs(|length| self.recipe.cost(length));
                Some(Costs::new(self.runtime.block_on(read)?))
            }
        };
        Plan::new(Layout::of(&self.set), PlanConfig::of(config, step), costs)
    }

    /// Lets an evaluation pass over audio take whole recordings, however long, if the set says how
    /// long they are; else `max_frames` bounds them.
    pub(super) fn take_whole_recordings(&mut self) -> Result<()> {
        let Recipe::Audio {
            config,
            most_frames,
        } = &mut self.recipe
        else {
            return Ok(());
        };
        if self.set.has_lengths() {
            // One more than the column says: resampling may round up.
            let frames = |length| at_rate(length, config.sample_rate_hz) as u32 + 1;
            let lengths = self.runtime.block_on(self.set.read_costs(frames))?;
            *most_frames = lengths.into_iter().max().unwrap_or(0) as usize;
        }
        Ok(())
    }

    /// The most that a window of `n_chunks` can take: each chunk may lie in a group of its own.
    pub(super) fn largest_groups_bytes(&self, n_chunks: usize) -> u64 {
        let groups = self.set.shards.iter().flat_map(|shard| &shard.groups);
        let mut bytes: Vec<u64> = groups.map(|group| group.memory).collect();
        bytes.sort_unstable_by(|a, b| b.cmp(a));
        bytes.iter().take(n_chunks).sum()
    }
}

/// What tells a training stream from an evaluation pass.
pub(super) struct Pass {
    pub(super) lanes: Vec<Windows>,
    /// Rows that the lanes take of the set.
    pub(super) n_planned: u64,
    /// Good samples of the steps before, over all ranks; about, where they differ in cost.
    pub(super) n_good_before: u64,
    /// The most that the row groups of one window take.
    pub(super) largest_window_bytes: u64,
    pub(super) collator: Collator,
    pub(super) bad_rows: BadRowList,
    /// Whole samples in place of crops and masks.
    pub(super) evaluate: bool,
    /// With keys in place of labels.
    pub(super) keyed: bool,
}

/// The plan of a recipe's training run, and the set that it is of.
///
/// # Errors
///
/// Those of [`Pipeline::train`], but for memory.
pub fn plan(config: &DataConfig) -> Result<(Arc<ShardSet>, Plan)> {
    let problems = config.problems();
    let (Some(step), true) = (config.step_size(), problems.is_empty()) else {
        return Err(Error::Config(problems));
    };
    let opened = Opened::open(&config.train, config)?;
    let plan = opened.plan(config, step)?;
    Ok((opened.set, plan))
}

/// Everything that cannot work, at once.
pub(super) fn check(config: &DataConfig, options: &Options) -> Result<()> {
    let mut problems = config.problems();
    let Options {
        rank,
        world,
        parts_per_step,
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
        parts_per_step > 0 && rank_lanes.is_multiple_of(parts_per_step),
        format!("{parts_per_step} parts do not divide the {rank_lanes} lanes of a rank"),
    );
    check(threads > 0, "threads: must be at least 1".to_owned());
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Error::Config(problems))
    }
}

/// Divides the memory and starts the threads.
pub(super) fn start(
    (set, runtime): (Arc<ShardSet>, Runtime),
    pass: Pass,
    config: &DataConfig,
    options: &Options,
    sample: impl Fn(&Work, &Task) -> Outcome + Send + Sync + 'static,
) -> Result<Pipeline> {
    let Pass {
        lanes,
        n_planned,
        n_good_before,
        largest_window_bytes,
        collator,
        bad_rows,
        evaluate,
        keyed,
    } = pass;
    let memory_bytes = parse_bytes(&config.memory).map_err(|reason| Error::Config(vec![reason]))?;
    // One is being filled and one is in the trainer's hands.
    let credits = options.prefetch + 2;
    let least_samples = collator.least_samples() as u64;
    let shares = Shares::divide(
        memory_bytes,
        &Needs {
            part_bytes: collator.part_bytes() as u64,
            n_parts: credits as u64,
            sample_bytes: collator.sample_bytes() as u64,
            least_samples,
            // Samples differ in cost: some slack, so that no thread runs dry behind a slow one.
            n_samples: least_samples - 1 + 8 * options.threads as u64,
            window_bytes: largest_window_bytes,
            n_lanes: lanes.len() as u64,
        },
    )?;

    let recorder = Arc::new(Recorder::new(
        options.threads,
        shares.windows_bytes,
        shares.n_samples,
        options.prefetch,
    ));
    let log = BadLog {
        set: Arc::clone(&set),
        rows: bad_rows.clone(),
        quarantine: options.quarantine.as_deref().map(Quarantine::new),
        max_bad_fraction: config.max_bad_fraction,
        n_planned,
        n_failed: bad_rows.rows().len() as u64,
        n_good_before,
        last: "met before this run was resumed, see its quarantine file".to_owned(),
    };
    // What ended a run must not be forgotten by starting it again.
    log.judge(&recorder)?;

    let (events, events_in) = bounded(1024);
    let (tasks, tasks_in) = bounded(shares.n_samples);
    // Room for an error behind the last batch.
    let (batches, batches_in) = bounded(credits + 1);
    let stop = Arc::new(AtomicBool::new(false));

    let work = Work {
        set: Arc::clone(&set),
        recipe: Arc::clone(&collator.recipe),
        mask: config.mask,
        seed: config.seed,
        limits: config.limits,
        evaluate,
        keyed,
        share: DecodeShare::new(&shares),
        recorder: Arc::clone(&recorder),
    };
    let specials = collator.recipe.specials();
    let work = Arc::new(move |task: &Task| sample(&work, task));
    let pool = start_pool(options.threads, &tasks_in, &events, &stop, &work)?;
    drop(tasks_in);

    let order = Order {
        lanes: lanes.iter().map(|_| Lane::default()).collect(),
        turns: Turns {
            n_lanes: lanes.len(),
            lane_share: collator.lane_share,
            lane_idx: 0,
            n_taken: 0,
            step: collator.next_step,
        },
        fetcher: Fetcher::new(
            lanes,
            shares.windows_bytes,
            largest_window_bytes,
            Reader::new(
                Arc::clone(&set),
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
        .name("shards-order".into())
        .spawn(move || {
            order.run(&events_in);
            // Nobody takes events now: threads that would send one end, and so do the others once
            // they are through with their picture. Dropping the runtime waits for running reads.
            drop(events_in);
            stop_pool.store(true, Relaxed);
            for thread in pool {
                let _panicked = thread.join();
            }
            drop(runtime);
        })
        .map_err(|source| io_error("the order thread", source))?;
    let thread = Some(thread);
    Ok(Pipeline {
        set,
        specials,
        recorder,
        bad_rows,
        events,
        batches: batches_in,
        stop,
        thread,
        holds_batch: false,
    })
}
