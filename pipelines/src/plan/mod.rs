//! Which rows, in which order: a pure function of layout, seed, epoch and policy.
//!
//! **Chunks.** A chunk is a row group, or a run of its rows where there are fewer than four row
//! groups per lane. Each epoch permutes the chunks with a generator keyed by (seed, epoch).
//!
//! **Slices and lanes.** The permuted chunks, laid end to end, are cut *by rows* into as many
//! slices as there are lanes, so that slices differ by one row at most. Lane `l` takes slice
//! `(l + epoch) mod lanes`: after `lanes` epochs every lane has walked exactly as many rows as any
//! other, so lanes drift apart by one row at most and never starve, however uneven the row groups
//! are. Dealing whole chunks would need no chunk to be read by two lanes, but lanes would drift
//! without bound, or the deal would depend on all epochs before. The price is `lanes - 1` chunks
//! per epoch that two lanes read: [`Report`] counts their bytes.
//!
//! **Windows.** Inside a slice, runs of about `window_chunks` chunks are pooled and their rows
//! shuffled together. A lane goes from slice to slice and never ends; lanes may cross into the
//! next epoch at different steps, but each (epoch, row) comes once.
//!
//! **Bad rows.** A lane's order is a fixed sequence of rows; a bad one is stepped over and the next
//! good row takes its slot. Badness is a property of bytes, so the place of step `k` is found again
//! from the step and the bad rows met before it.
//!
//! **By cost.** Where a step is so many seconds or tokens, [`Costs`] weigh the rows: slices are cut
//! by cost, and a window's rows are cut into runs of neighbours in length, each a lane's share of
//! one step (`cost.rs`), which come in random order. The number of a window's runs depends on the
//! lengths of its rows alone, so the place of step `k` is arithmetic on lengths; it does not depend
//! on bad rows, which leave their run short.
//!
//! **Mixes.** Several sets have an order each, as if each were alone, but that its lanes take only
//! their share of a step from it: [`Mix`] says which set each sample of a lane is of (each run, in a
//! plan by cost), by arithmetic. Epochs are the sets' own, and all that holds for one set holds for
//! each of them. Rows and shards are numbered set after set, so that every row has one number; a bad
//! one is replaced by the next good row of its own set.

mod bad_rows;
mod cost;
mod lanes;
mod layout;
mod mix;
mod permutation;
mod report;
mod set;

#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use bad_rows::BadRows;
pub use cost::Costs;
pub use lanes::LaneStream;
pub use layout::{Layout, Place};
pub use mix::{Mix, Share};
pub use report::{CostReport, RankMemory, Report, SetReport};

use crate::config::StepSize;
use crate::{DataConfig, Error, Result};
use set::SetOrder;

/// What an order depends on beside the layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanConfig {
    /// Seed of the order.
    pub seed: u64,
    /// Streams that an epoch is split into; the number of ranks divides it.
    pub lanes: usize,
    /// What a step takes, over all lanes; the number of lanes divides a number of samples.
    pub step: StepSize,
    /// Chunks that a lane shuffles together.
    pub window_chunks: usize,
}

impl PlanConfig {
    /// The settings of a recipe's data table that an order depends on, and the size of its steps.
    pub fn of(config: &DataConfig, step: StepSize) -> Self {
        let &DataConfig {
            seed,
            lanes,
            window_chunks,
            ..
        } = config;
        Self {
            seed,
            lanes,
            step,
            window_chunks,
        }
    }
}

/// The order of samples, for any step and any lane. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Plan(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    layout: Layout,
    costs: Option<Costs>,
    sets: Vec<SetOrder>,
    mix: Mix,
    config: PlanConfig,
}

/// One sample's place in the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slot {
    /// Epoch of its set.
    pub epoch: u64,
    /// Number of the row, among those of all sets.
    pub row: u64,
    /// Shard, among those of all sets.
    pub shard: u32,
    /// Row group of the shard.
    pub group: u32,
    /// Row of the row group.
    pub row_in_group: u32,
    /// Index of the row group in [`Window::groups`].
    pub window_group: u32,
    /// The step that it belongs to, in a plan by cost; 0 in a plan by count.
    pub step: u64,
}

/// Row groups that are held together, and the order in which their rows are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Epoch of all its slots.
    pub epoch: u64,
    /// The row groups to fetch, each once and each with at least one slot.
    pub groups: Vec<WindowGroup>,
    /// The rows in their order; at least one.
    pub slots: Vec<Slot>,
}

/// A row group that a window needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowGroup {
    /// Shard, among those of all sets.
    pub shard: u32,
    /// Row group of the shard.
    pub group: u32,
    /// Slots of the window that lie in it; after as many it can be let go.
    pub n_slots: u32,
}

impl Plan {
    /// Plans the order of one set with this layout; `costs` are needed where steps have a cost, and
    /// leave out rows where they have none.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if a count is zero, if `lanes` does not divide the samples of a step, if a
    /// lane's share cannot hold the longest row, or if there are no rows.
    ///
    /// # Panics
    ///
    /// If steps have a cost and there are no `costs`, or not one for each row.
    pub fn new(layout: Layout, config: PlanConfig, costs: Option<Costs>) -> Result<Self> {
        Self::mixed(layout, config, costs, &[Share::Weight(1.0)])
    }

    /// Plans the order of a mix of sets: one share, above 0, for each set of the layout.
    ///
    /// # Errors
    ///
    /// As [`Plan::new`], for each set.
    ///
    /// # Panics
    ///
    /// As [`Plan::new`], and if there is not one share for each set.
    pub fn mixed(
        layout: Layout,
        config: PlanConfig,
        costs: Option<Costs>,
        shares: &[Share],
    ) -> Result<Self> {
        assert_eq!(shares.len(), layout.n_sets(), "one share for each set");
        let costs = match config.step {
            StepSize::Samples(_) => None,
            StepSize::Cost(_) => Some(costs.expect("steps by cost need costs")),
        };
        let problems = problems(&layout, &config, costs.as_ref());
        if !problems.is_empty() {
            return Err(Error::Config(problems));
        }
        let sets = 0..layout.n_sets();
        let sets: Vec<SetOrder> = sets
            .map(|set| SetOrder::new(&layout, set, &config, costs.as_ref()))
            .collect();
        let weights: Vec<f64> = shares
            .iter()
            .zip(&sets)
            .map(|(share, set)| match share {
                Share::Weight(weight) => *weight,
                Share::Passes(passes) => passes * set.chunks.total_weight() as f64,
            })
            .collect();
        Ok(Self(Arc::new(Inner {
            mix: Mix::new(&weights, config.lanes),
            layout,
            costs,
            sets,
            config,
        })))
    }

    /// What each lane gives to one step: so many samples, or samples that cost no more than this.
    pub fn lane_share(&self) -> StepSize {
        let lanes = self.0.config.lanes;
        match self.0.config.step {
            StepSize::Samples(samples) => StepSize::Samples(samples / lanes),
            StepSize::Cost(cost) => StepSize::Cost(cost / lanes as u64),
        }
    }

    /// What each row costs, in a plan by cost.
    pub fn costs(&self) -> Option<&Costs> {
        self.0.costs.as_ref()
    }

    /// Which set each unit of a lane comes from: each sample, or in a plan by cost each step.
    pub fn mix(&self) -> &Mix {
        &self.0.mix
    }

    /// Units that a lane gives to `steps` steps.
    pub(crate) fn units(&self, steps: u64) -> u64 {
        match self.lane_share() {
            StepSize::Samples(samples) => steps * samples as u64,
            StepSize::Cost(_) => steps,
        }
    }

    /// Rows that one epoch of each set takes: all, but for those that a plan by cost leaves out.
    pub fn n_planned(&self) -> u64 {
        self.0.sets.iter().map(|set| set.n_planned).sum()
    }

    /// Rows that an epoch of one set takes.
    pub fn n_planned_of(&self, set: usize) -> u64 {
        self.0.sets[set].n_planned
    }

    /// The settings it was made with.
    pub fn config(&self) -> &PlanConfig {
        &self.0.config
    }

    /// Which row lies where.
    pub fn layout(&self) -> &Layout {
        &self.0.layout
    }

    /// Number of chunks that an epoch permutes, of all sets.
    pub fn n_chunks(&self) -> usize {
        self.0.sets.iter().map(|set| set.chunks.len()).sum()
    }
}

/// What cannot work.
fn problems(layout: &Layout, config: &PlanConfig, costs: Option<&Costs>) -> Vec<String> {
    let mut problems = Vec::new();
    let lanes = config.lanes;
    if let Some(costs) = costs {
        assert_eq!(costs.len(), layout.rows(), "one cost for each row");
    }
    for set in 0..layout.n_sets() {
        let rows = layout.set_rows(set);
        let key = match layout.n_sets() {
            1 => "data.train".to_owned(),
            _ => format!("data.train[{set}]"),
        };
        if rows.is_empty() {
            problems.push(format!("{key}: the set has no rows to plan"));
        } else if costs.is_some_and(|costs| costs.leave_out(&rows)) {
            problems.push(format!("{key}: every row is too short to be planned"));
        }
    }
    match config.step {
        StepSize::Samples(batch) => {
            if lanes == 0 || batch == 0 || !batch.is_multiple_of(lanes) {
                problems.push(format!(
                    "data.lanes: {lanes} does not divide data.batch = {batch}"
                ));
            }
        }
        StepSize::Cost(cost) => {
            let longest = costs.map_or(0, Costs::longest);
            let share = cost / lanes.max(1) as u64;
            if lanes == 0 || share < longest.into() {
                problems.push(format!(
                    "data.lanes: {lanes} lanes take {share} each of a step, less than the longest \
                     sample, {longest}"
                ));
            }
        }
    }
    if config.window_chunks == 0 {
        problems.push("data.window_chunks: must be at least 1".to_owned());
    }
    problems
}

/// One finite pass in file order, each row once: a window for each row group that has rows.
pub fn file_order(layout: &Layout) -> impl Iterator<Item = Window> + Send + use<> {
    let layout = layout.clone();
    (0..layout.n_groups()).filter_map(move |group_of_set| {
        let rows = layout.group_rows(group_of_set);
        let (shard, group) = layout.shard_of(group_of_set);
        let slots: Vec<Slot> = rows
            .clone()
            .map(|row| Slot {
                epoch: 0,
                row,
                shard,
                group,
                row_in_group: (row - rows.start) as u32,
                window_group: 0,
                step: 0,
            })
            .collect();
        let groups = vec![WindowGroup {
            shard,
            group,
            n_slots: slots.len() as u32,
        }];
        (!slots.is_empty()).then_some(Window {
            epoch: 0,
            groups,
            slots,
        })
    })
}
