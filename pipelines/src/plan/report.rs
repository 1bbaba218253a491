//! What a plan costs and how well it shuffles, known before the run.

mod cost;
mod dataset;
#[cfg(test)]
mod tests;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::iter::Peekable;

pub use self::cost::CostReport;
use self::cost::{CostSums, LaneCost};
pub use self::dataset::SetReport;
use super::bad_rows::BadRows;
use super::build::Plan;
use super::lanes::LaneStream;
use super::window::{Slot, Window};
use crate::Result;
use crate::config::StepSize;
use crate::shard::Sets;

/// Samples that are drawn to measure the shuffle: enough for two digits.
const DRAWN_SAMPLES: usize = 200_000;

/// What a plan costs and how well it shuffles.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The sets.
    pub sets: Vec<SetReport>,
    /// Lanes.
    pub lanes: usize,
    /// Samples per step, over all lanes; on average, where steps have a cost.
    pub batch: f64,
    /// What steps by cost do with their share; `None` in a plan by count.
    pub cost: Option<CostReport>,
    /// Steps from the first on that the shuffle was measured over.
    pub drawn_steps: usize,
    /// Probability that two samples in a row of one lane lie in the same shard.
    pub neighbour_shard_prob: f64,
    /// Probability that two samples in a row of one lane lie in the same row group.
    pub neighbour_group_prob: f64,
    /// Probability that two samples of a batch lie in the same shard.
    pub batch_shard_prob: f64,
    /// The same probability if rows were drawn from the whole sets at random.
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
    /// Ranks; it divides the lanes.
    pub world: usize,
    /// With less it is refused.
    pub least_bytes: u64,
    /// With as much, every lane's next window is fetched while the one before it is in use.
    pub ahead_bytes: u64,
}

impl Report {
    /// Measures a plan of `sets`: costs over the first epoch of each, shuffling over its first steps.
    ///
    /// # Errors
    ///
    /// Those of [`Plan::lanes`].
    pub fn new(sets: &Sets, plan: &Plan, memory: Vec<RankMemory>) -> Result<Self> {
        let each = sets.sets().iter().enumerate();
        let reports: Vec<SetReport> = each
            .clone()
            .map(|(index, set)| SetReport::new(set, plan, index))
            .collect();
        let ideal = each.flat_map(|(index, set)| {
            let share = plan.mix().share(index);
            let shards = set.shards.iter();
            shards.map(move |shard| (share * shard.rows as f64 / set.rows as f64).powi(2))
        });
        let mut report = Self {
            sets: reports,
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

    /// Rows of all sets.
    pub fn rows(&self) -> u64 {
        self.sets.iter().map(|set| set.rows).sum()
    }

    /// Bytes that are fetched for each sample.
    pub fn bytes_per_sample(&self) -> f64 {
        let bytes = |set: &SetReport| set.epoch_bytes as f64 / set.steps_per_epoch;
        self.sets.iter().map(bytes).sum::<f64>() / self.batch
    }

    /// Requests for each sample.
    pub fn requests_per_sample(&self) -> f64 {
        let requests = |set: &SetReport| set.epoch_requests as f64 / set.steps_per_epoch;
        self.sets.iter().map(requests).sum::<f64>() / self.batch
    }

    /// Bytes that a cache of all that is read takes.
    pub fn cache_bytes(&self) -> u64 {
        self.sets.iter().map(|set| set.bytes).sum()
    }

    fn draw(&mut self, plan: &Plan) -> Result<()> {
        let n_sets = self.sets.len();
        let streams = plan.lanes(0..self.lanes, 0, &BadRows::default())?;
        let slots = |window: Window| window.slots;
        let mut streams: Vec<_> = streams
            .into_iter()
            .map(|stream: LaneStream| stream.flat_map(slots).peekable())
            .collect();
        let mut last: Vec<Option<Slot>> = vec![None; self.lanes];
        let mut costs = CostSums::new(self.lanes);
        let mut drawn_of_set = vec![0_u64; n_sets];
        let (mut pairs, mut same_shard, mut same_group) = (0_u64, 0_u64, 0_u64);
        let (mut n_drawn, mut n_steps) = (0, 0);
        let n_wanted = DRAWN_SAMPLES.min(plan.n_planned() as usize);
        while n_drawn < n_wanted {
            let mut shards: BTreeMap<u32, u64> = BTreeMap::new();
            let mut groups = BTreeSet::new();
            let mut step_costs = Vec::with_capacity(self.lanes);
            let n_before = n_drawn;
            let lanes = streams.chunks_mut(n_sets).zip(&mut last).enumerate();
            for (lane, (streams, last)) in lanes {
                let slots = share_of_step(streams, plan, (lane, n_steps), &mut drawn_of_set);
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
        for (index, set) in self.sets.iter_mut().enumerate() {
            // By cost a set's runs are as long as its samples let them be: that is measured.
            let per_step = match plan.config().step {
                StepSize::Samples(batch) => batch as f64 * set.share,
                StepSize::Cost(_) => drawn_of_set[index].max(1) as f64 / n_steps as f64,
            };
            set.steps_per_epoch = plan.n_planned_of(index) as f64 / per_step;
        }
        if let StepSize::Cost(lane_share) = plan.lane_share() {
            let left_out = self.rows() - plan.n_planned();
            self.cost = Some(costs.report(lane_share, left_out));
        }
        Ok(())
    }
}

/// The slots that a lane gives to a step, the next of its streams of each set.
fn share_of_step(
    streams: &mut [Peekable<impl Iterator<Item = Slot>>],
    plan: &Plan,
    (lane, step): (usize, u64),
    drawn_of_set: &mut [u64],
) -> Vec<Slot> {
    let mut slots = Vec::new();
    for unit in plan.units(step)..plan.units(step + 1) {
        let set = plan.mix().set_of(lane, unit);
        let n_before = slots.len();
        match plan.lane_share() {
            StepSize::Samples(_) => slots.extend(streams[set].next()),
            StepSize::Cost(_) => {
                slots.extend(std::iter::from_fn(|| {
                    streams[set].next_if(|slot| slot.step == step)
                }));
            }
        }
        drawn_of_set[set] += (slots.len() - n_before) as u64;
    }
    slots
}
