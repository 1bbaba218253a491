//! Opens sets, divides the memory and starts the threads.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crossbeam_channel::bounded;
use tokio::runtime::Runtime;

use super::bad_log::{BadLog, BadRowList};
use super::collate::Collator;
use super::fetch::{Fetcher, Reader, Source};
use super::sample_kind::{Recipe, at_rate, kinds};
use super::scheduler::{Order, Stream, Turns};
use super::worker::{Outcome, Task, Work, start_pool};
use super::{Options, Pipeline, io_error};
use crate::budget::{DecodeShare, Needs, Shares};
use crate::config::{DataConfig, StepSize, TrainSets, parse_bytes};
use crate::plan::{Costs, Layout, Mix, Plan, PlanConfig, RankMemory};
use crate::quarantine::Quarantine;
use crate::shard::{Dataset, Kind, Mixture};
use crate::stats::Recorder;
use crate::{Error, Result};

/// Sets, what becomes of their rows, and the threads that read them.
pub(super) struct Opened {
    pub(super) sets: Arc<Mixture>,
    pub(super) recipe: Recipe,
    pub(super) runtime: Runtime,
    /// Of one set its own, of a mix that of all its sets and shares.
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
        let mut sets = Vec::new();
        for url in train.urls() {
            let open = Dataset::open_with(url, kinds, &config.columns, &options);
            sets.push(runtime.block_on(open)?);
        }
        let fingerprints: Vec<u64> = sets.iter().map(Dataset::fingerprint).collect();
        let sets = Arc::new(Mixture::new(sets)?);
        let recipe = Recipe::of(config, &sets)?;
        Ok(Opened {
            sets,
            recipe,
            runtime,
            fingerprint: train.fingerprint(&fingerprints),
        })
    }

    /// The plan of a training run over these sets.
    pub(super) fn plan(&self, config: &DataConfig, step: StepSize) -> Result<Plan> {
        let step = self.recipe.step(step, config.lanes);
        let costs = match step {
            StepSize::Samples(_) => None,
            StepSize::Cost(_) => {
                let mut costs = Costs::empty(self.recipe.most_cost());
                let read = self
                    .sets
                    .read_lengths(|length| costs.push(self.recipe.cost(length)));
                self.runtime.block_on(read)?;
                Some(costs)
            }
        };
        let layout = Layout::joined(self.sets.datasets().iter().map(Layout::of));
        let shares = config.train.shares();
        Plan::mixed(layout, PlanConfig::of(config, step), costs, &shares)
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
        if self.sets.has_lengths() {
            // One more than the column says: resampling may round up.
            let frames = |length| at_rate(length, config.sample_rate_hz) as u32 + 1;
            let mut most = 0;
            let read = self
                .sets
                .read_lengths(|length| most = most.max(frames(length)));
            self.runtime.block_on(read)?;
            *most_frames = most as usize;
        }
        Ok(())
    }
}

/// The most that a window of `n_chunks` of a set can take: each chunk may lie in a group of its own.
pub(super) fn largest_groups_bytes(set: &Dataset, n_chunks: usize) -> u64 {
    let groups = set.shards.iter().flat_map(|shard| &shard.groups);
    let mut bytes: Vec<u64> = groups.map(|group| group.memory).collect();
    bytes.sort_unstable_by(|a, b| b.cmp(a));
    bytes.iter().take(n_chunks).sum()
}

/// What tells a training stream from an evaluation pass.
pub(super) struct Pass {
    /// This rank's lanes, among all, and which set each of their samples is of.
    pub(super) lanes: Range<usize>,
    pub(super) mix: Mix,
    /// What each lane takes of each set: lane by lane.
    pub(super) sources: Vec<Source>,
    /// Rows that the lanes take of each set.
    pub(super) n_planned: Vec<u64>,
    /// Good samples of the steps before, over all ranks; about, where they differ in cost.
    pub(super) n_good_before: u64,
    pub(super) collator: Collator,
    pub(super) bad_rows: BadRowList,
    /// Whole samples in place of crops and masks.
    pub(super) evaluate: bool,
    /// With keys in place of labels.
    pub(super) keyed: bool,
}

/// A training run before it starts.
#[derive(Debug)]
pub struct Planned {
    /// The sets.
    pub sets: Arc<Mixture>,
    /// The order of their samples.
    pub plan: Plan,
    /// As [`Pipeline::fingerprint`].
    pub fingerprint: u64,
    /// Memory that each rank needs, with as many threads as there are cores.
    pub memory: Vec<RankMemory>,
}

/// The plan of a recipe's training run, and the sets that it is of.
///
/// # Errors
///
/// Those of [`Pipeline::train`], but for memory.
pub fn plan(config: &DataConfig) -> Result<Planned> {
    let problems = config.problems();
    let (Some(step), true) = (config.step_size(), problems.is_empty()) else {
        return Err(Error::Config(problems));
    };
    let opened = Opened::open(&config.train, config)?;
    let plan = opened.plan(config, step)?;
    let fingerprint = opened.fingerprint;
    let sets = Arc::clone(&opened.sets);
    let lane_bytes = sets.datasets().iter();
    let lane_bytes = lane_bytes
        .map(|set| largest_groups_bytes(set, config.window_chunks))
        .sum();
    let recipe = Arc::new(opened.recipe);
    let worlds = (1..=config.lanes).filter(|world| config.lanes.is_multiple_of(*world));
    let memory = worlds.map(|world| {
        let n_lanes = config.lanes / world;
        let options = Options {
            world,
            parts_per_step: if recipe.joins_lanes() { 1 } else { n_lanes },
            ..Options::default()
        };
        let needs = needs(
            &collator(config, &options, &recipe, &plan),
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
        sets,
        plan,
    })
}

/// What makes the batches of a training run.
pub(super) fn collator(
    config: &DataConfig,
    options: &Options,
    recipe: &Arc<Recipe>,
    plan: &Plan,
) -> Collator {
    let lane_share = plan.lane_share();
    let most_lane_samples = match (lane_share, plan.costs()) {
        (StepSize::Samples(samples), _) => samples,
        (StepSize::Cost(share), costs) => {
            let shortest = costs.map_or(1, Costs::shortest);
            (share / u64::from(shortest)).min(plan.n_planned()) as usize
        }
    };
    Collator {
        recipe: Arc::clone(recipe),
        mask: Some(config.mask),
        seed: config.seed,
        lane_share,
        most_lane_samples,
        lanes_per_part: config.lanes / options.world / options.parts_per_step,
        n_parts: options.parts_per_step,
        next_step: options.start_step,
        next_part: 0,
    }
}

/// What a rank needs to hold, where a lane's largest windows of all sets take `lane_bytes`.
fn needs(collator: &Collator, options: &Options, lane_bytes: u64, n_lanes: usize) -> Needs {
    let least_samples = collator.least_samples() as u64;
    Needs {
        micro_batch_bytes: collator.part_bytes() as u64,
        n_micro_batches: credits(options) as u64,
        sample_bytes: collator.sample_bytes() as u64,
        least_samples,
        // Samples differ in cost: some slack, so that no thread runs dry behind a slow one.
        n_samples: least_samples - 1 + 8 * options.threads as u64,
        window_bytes: lane_bytes,
        n_lanes: n_lanes as u64,
    }
}

/// Batches that are alive at once: beside those ahead, one is being filled and one is in the
/// trainer's hands.
fn credits(options: &Options) -> usize {
    options.prefetch + 2
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
    (sets, fingerprint, runtime): (Arc<Mixture>, u64, Runtime),
    pass: Pass,
    config: &DataConfig,
    options: &Options,
    sample: impl Fn(&Work, &Task) -> Outcome + Send + Sync + 'static,
) -> Result<Pipeline> {
    let Pass {
        lanes,
        mix,
        sources,
        n_planned,
        n_good_before,
        collator,
        bad_rows,
        evaluate,
        keyed,
    } = pass;
    let memory_bytes = parse_bytes(&config.memory).map_err(|reason| Error::Config(vec![reason]))?;
    // A lane holds a window of each set.
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
        sets: Arc::clone(&sets),
        rows: bad_rows.clone(),
        quarantine: options.quarantine.as_deref().map(Quarantine::new),
        max_bad_fraction: config.max_bad_fraction,
        n_planned,
        leaves_out_short: !evaluate,
        n_failed: bad_rows.bad().len() as u64,
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
        sets: Arc::clone(&sets),
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
    let vocabulary_sha256 = collator.recipe.vocabulary_sha256().map(str::to_owned);
    let work = Arc::new(move |task: &Task| sample(&work, task));
    let pool = start_pool(options.threads, &tasks_in, &events, &stop, &work)?;
    drop(tasks_in);

    let order = Order {
        streams: sources.iter().map(|_| Stream::default()).collect(),
        turns: Turns {
            mix,
            lanes,
            lane_share: collator.lane_share,
            lane_idx: 0,
            n_taken: 0,
            step: collator.next_step,
        },
        fetcher: Fetcher::new(
            sources,
            shares.windows_bytes,
            Reader::new(
                Arc::clone(&sets),
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
        sets,
        fingerprint,
        specials,
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
