//! The costs of a plan and the quality of its shuffle, known before the run.

mod cost;
mod dataset;
#[cfg(test)]
mod tests;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::iter::Peekable;

pub use self::cost::CostReport;
use self::cost::{CostSums, LaneCost};
pub use self::dataset::DatasetReport;
use super::bad_rows::BadRows;
use super::build::Plan;
use super::lanes::LaneWindows;
use super::window::{Slot, Window};
use crate::Result;
use crate::config::StepSize;
use crate::shard::Mixture;

/// Samples that are drawn to measure the shuffle: enough for two digits.
const DRAWN_SAMPLES: usize = 200_000;

/// The costs of a plan and the quality of its shuffle.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// One report for each dataset, in the order of the config.
    pub datasets: Vec<DatasetReport>,
    /// Number of lanes.
    pub lanes: usize,
    /// Samples per step, over all lanes; an average, in a plan by cost.
    pub batch: f64,
    /// Use of the steps' cost; `None` in a plan by count.
    pub cost: Option<CostReport>,
    /// Number of first steps that the shuffle was measured over.
    pub drawn_steps: usize,
    /// Probability that two samples in a row of one lane are in the same shard.
    pub neighbour_shard_prob: f64,
    /// Probability that two samples in a row of one lane are in the same row group.
    pub neighbour_group_prob: f64,
    /// Probability that two samples of a batch are in the same shard.
    pub batch_shard_prob: f64,
    /// The same probability if rows were drawn from all of the datasets at random.
    pub ideal_shard_prob: f64,
    /// Different shards in a batch, on average.
    pub shards_per_batch: f64,
    /// Different row groups in a batch, on average.
    pub groups_per_batch: f64,
    /// Memory that each rank needs, for each number of ranks.
    pub memory: Vec<RankMemory>,
}

/// Memory that each of `world` ranks needs, as `data.memory` counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RankMemory {
    /// Number of ranks; it divides the lanes.
    pub world: usize,
    /// Least memory that a run starts with, in bytes.
    pub least_bytes: u64,
    /// Memory, in bytes, with which every lane's next window is fetched while one is in use.
    pub ahead_bytes: u64,
}

impl Report {
    /// Measures a plan of `mixture`: costs over the first epoch of each, shuffling over its first steps.
    ///
    /// # Errors
    ///
    /// As [`Plan::lanes`].
    pub fn new(mixture: &Mixture, plan: &Plan, memory: Vec<RankMemory>) -> Result<Self> {
        let each = mixture.datasets().iter().enumerate();
        let reports: Vec<DatasetReport> = each
            .clone()
            .map(|(index, dataset)| DatasetReport::new(dataset, plan, index))
            .collect();
        let ideal = each.flat_map(|(index, dataset)| {
            let share = plan.mix().share(index);
            let shards = dataset.shards.iter();
            shards.map(move |shard| (share * shard.rows as f64 / dataset.rows as f64).powi(2))
        });
        let mut report = Self {
            datasets: reports,
            lanes: plan.config().lanes,
            batch: 0.0,
            cost: None,
            drawn_steps: 0,
            neighbour_shard_prob: 0.0,
            neighbour_group_prob: 0.0,
            batch_shard_prob: 0.0,
            ideal_shard_prob: ideal.sum(),
            shards_per_batch: 0.0,
            groups_per_batch: 0.0,
            memory,
        };
        report.draw(plan)?;
        Ok(report)
    }

    /// Returns the rows of all datasets.
    pub fn rows(&self) -> u64 {
        self.datasets.iter().map(|dataset| dataset.rows).sum()
    }

    /// Returns the bytes that are fetched for each sample.
    pub fn bytes_per_sample(&self) -> f64 {
        let bytes = |dataset: &DatasetReport| dataset.epoch_bytes as f64 / dataset.steps_per_epoch;
        self.datasets.iter().map(bytes).sum::<f64>() / self.batch
    }

    /// Returns the requests for each sample.
    pub fn requests_per_sample(&self) -> f64 {
        let requests =
            |dataset: &DatasetReport| dataset.epoch_requests as f64 / dataset.steps_per_epoch;
        self.datasets.iter().map(requests).sum::<f64>() / self.batch
    }

    /// Returns the size of a cache of all reads, in bytes.
    pub fn cache_bytes(&self) -> u64 {
        self.datasets.iter().map(|dataset| dataset.bytes).sum()
    }

    fn draw(&mut self, plan: &Plan) -> Result<()> {
        let n_datasets = self.datasets.len();
        let lanes = plan.lanes(0..self.lanes, 0, &BadRows::default())?;
        let slots = |window: Window| window.slots;
        let mut slots_of_lanes: Vec<_> = lanes
            .into_iter()
            .map(|windows: LaneWindows| windows.flat_map(slots).peekable())
            .collect();
        let mut last: Vec<Option<Slot>> = vec![None; self.lanes];
        let mut costs = CostSums::new(self.lanes);
        let mut drawn_of_dataset = vec![0_u64; n_datasets];
        let (mut pairs, mut same_shard, mut same_group) = (0_u64, 0_u64, 0_u64);
        let (mut n_drawn, mut n_steps) = (0, 0);
        let n_wanted = DRAWN_SAMPLES.min(plan.n_planned() as usize);
        while n_drawn < n_wanted {
            let mut shards: BTreeMap<u32, u64> = BTreeMap::new();
            let mut groups = BTreeSet::new();
            let mut step_costs = Vec::with_capacity(self.lanes);
            let n_before = n_drawn;
            let lanes = slots_of_lanes
                .chunks_mut(n_datasets)
                .zip(&mut last)
                .enumerate();
            for (lane, (of_datasets, last)) in lanes {
                let slots =
                    share_of_step(of_datasets, plan, (lane, n_steps), &mut drawn_of_dataset);
                step_costs.extend(plan.costs().map(|costs| LaneCost::new(&slots, costs)));
                n_drawn += slots.len();
                for slot in slots {
                    *shards.entry(slot.shard).or_default() += 1;
                    groups.insert((slot.shard, slot.group));
                    if let Some(last) = last.replace(slot) {
                        pairs += 1;
                        same_shard += u64::from(last.shard == slot.shard);
                        same_group +=
                            u64::from((last.shard, last.group) == (slot.shard, slot.group));
                    }
                }
            }
            if plan.costs().is_some() {
                costs.add(&step_costs);
            }
            let same: u64 = shards.values().map(|n| n * (n - 1)).sum();
            let batch = (n_drawn - n_before) as f64;
            self.batch_shard_prob += same as f64 / (batch * (batch - 1.0)).max(1.0);
            self.shards_per_batch += shards.len() as f64;
            self.groups_per_batch += groups.len() as f64;
            n_steps += 1;
        }
        for sum in [
            &mut self.batch_shard_prob,
            &mut self.shards_per_batch,
            &mut self.groups_per_batch,
        ] {
            *sum /= n_steps as f64;
        }
        self.neighbour_shard_prob = same_shard as f64 / pairs.max(1) as f64;
        self.neighbour_group_prob = same_group as f64 / pairs.max(1) as f64;
        self.drawn_steps = n_steps as usize;
        self.batch = n_drawn as f64 / n_steps as f64;
        for (index, dataset) in self.datasets.iter_mut().enumerate() {
            // By cost the samples of a step depend on their lengths: that is measured.
            let per_step = match plan.config().step {
                StepSize::Samples(batch) => batch as f64 * dataset.share,
                StepSize::Cost(_) => drawn_of_dataset[index].max(1) as f64 / n_steps as f64,
            };
            dataset.steps_per_epoch = plan.n_planned_of(index) as f64 / per_step;
        }
        if let StepSize::Cost(lane_share) = plan.lane_share() {
            let left_out = self.rows() - plan.n_planned();
            self.cost = Some(costs.report(lane_share, left_out));
        }
        Ok(())
    }
}

/// Takes the slots that a lane gives to a step from its windows of each dataset.
fn share_of_step(
    of_datasets: &mut [Peekable<impl Iterator<Item = Slot>>],
    plan: &Plan,
    (lane, step): (usize, u64),
    drawn_of_dataset: &mut [u64],
) -> Vec<Slot> {
    let mut slots = Vec::new();
    for unit in plan.units(step)..plan.units(step + 1) {
        let dataset = plan.mix().dataset_of(lane, unit);
        let n_before = slots.len();
        match plan.lane_share() {
            StepSize::Samples(_) => slots.extend(of_datasets[dataset].next()),
            StepSize::Cost(_) => {
                slots.extend(std::iter::from_fn(|| {
                    of_datasets[dataset].next_if(|slot| slot.step == step)
                }));
            }
        }
        drawn_of_dataset[dataset] += (slots.len() - n_before) as u64;
    }
    slots
}
