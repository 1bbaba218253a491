//! The endless sequence of windows of each lane, from any step on.

use std::ops::Range;
use std::sync::Arc;

use super::bad_rows::BadRows;
use super::build::Plan;
use super::dataset::{DatasetOrder, LaneStart};
use super::permutation::{EpochOrder, micro_batch_rng, window_order};
use super::window::{Slot, Window, WindowGroup};
use super::{cost, layout};
use crate::config::StepSize;
use crate::{Error, Result};

/// An endless iterator over the windows that one lane takes from one dataset.
///
/// The slots of its windows, one after another, are the lane's samples of that dataset, from the step
/// on that it was made for. In a plan by count, [`Plan::mix`] determines which samples of a step are from
/// this dataset; in a plan by cost each slot names its step. Known bad rows are left out.
/// Looking ahead is cheap: a window takes 48 bytes per slot and no I/O.
#[derive(Debug)]
pub struct LaneWindows {
    plan: Plan,
    lane: usize,
    dataset: usize,
    bad: Arc<BadRows>,
    order: Arc<EpochOrder>,
    /// Next window of the lane's slice.
    window: usize,
    /// Good rows already taken from that window, or micro-batches in a plan by cost.
    taken: u64,
    /// In a plan by cost, the first step that the next micro-batch may belong to.
    next_step: u64,
}

impl Plan {
    /// Returns the windows of `lanes` from `step` on, where `bad` holds the bad rows that were met
    /// before: lane by lane, and for each lane dataset by dataset.
    ///
    /// Takes arithmetic and the order of one epoch of each dataset; with bad rows the orders of all
    /// epochs before it (25 ms each for a million row groups), one at a time; by cost also the
    /// sorted lengths of their rows. Reads nothing.
    ///
    /// # Errors
    ///
    /// [`Error::NoGoodSample`] if every row of a dataset is bad.
    pub fn lanes(&self, lanes: Range<usize>, step: u64, bad: &BadRows) -> Result<Vec<LaneWindows>> {
        self.check_bad_rows(bad)?;
        let bad = Arc::new(bad.clone());
        let starts = self.0.datasets.iter().enumerate().map(|(index, dataset)| {
            // Units that the lanes have taken from this dataset.
            let before = |n_units: u64| -> Vec<u64> {
                let counts = lanes
                    .clone()
                    .map(|lane| self.0.mix.count(index, lane, n_units));
                counts.collect()
            };
            match (self.lane_share(), self.costs()) {
                (StepSize::Cost(share), Some(costs)) => {
                    dataset.starts_by_cost(lanes.clone(), &before(step), costs, share)
                }
                _ => dataset.starts(lanes.clone(), &before(self.units(step)), &bad),
            }
        });
        let starts: Vec<Vec<LaneStart>> = starts.collect();
        let mut windows = Vec::with_capacity(lanes.len() * self.0.datasets.len());
        for (lane_idx, lane) in lanes.enumerate() {
            for (dataset, starts) in starts.iter().enumerate() {
                let LaneStart {
                    epoch,
                    window,
                    taken,
                } = starts[lane_idx];
                windows.push(LaneWindows {
                    plan: self.clone(),
                    lane,
                    dataset,
                    bad: bad.clone(),
                    order: self.0.datasets[dataset].order(epoch),
                    window,
                    taken,
                    next_step: step,
                });
            }
        }
        Ok(windows)
    }

    /// Rejects a dataset without a good row: its lanes would search for one forever.
    fn check_bad_rows(&self, bad: &BadRows) -> Result<()> {
        let n_datasets = self.0.datasets.len();
        for (index, dataset) in self.0.datasets.iter().enumerate() {
            let known = bad.in_range(dataset.rows.clone());
            let n_bad = match self.costs() {
                None => known.count() as u64,
                Some(costs) => known.filter(|&row| costs.of(row) > 0).count() as u64,
            };
            if n_bad == dataset.n_planned {
                let last = match n_datasets {
                    1 => "every row of the dataset is known to be bad or too short".to_owned(),
                    _ => format!(
                        "every row of dataset {} of the mixture is known to be bad or too short",
                        index + 1
                    ),
                };
                return Err(Error::NoGoodSample { last });
            }
        }
        Ok(())
    }
}

impl LaneWindows {
    fn order_of_dataset(&self) -> &DatasetOrder {
        &self.plan.0.datasets[self.dataset]
    }

    /// Returns the rows of the next window and their steps, without those that are bad or taken.
    fn rows(&mut self, slice: usize) -> Vec<(u64, u64)> {
        let plan = self.plan.clone();
        let dataset = &plan.0.datasets[self.dataset];
        let (seed, epoch) = (dataset.seed, self.order.epoch);
        let chunks = dataset.chunks_of_window(&self.order, slice, self.window);
        let rows: Vec<u64> = chunks.flatten().collect();
        let order = window_order(rows.len(), seed, epoch, slice, self.window);
        let shuffled = order.into_iter().map(|at| rows[at as usize]);
        let taken = self.taken as usize;
        match (plan.lane_share(), plan.costs()) {
            (StepSize::Cost(share), Some(costs)) => {
                let shuffled: Vec<u64> = shuffled.collect();
                let mut rng = micro_batch_rng(seed, epoch, slice, self.window);
                let micro_batches = cost::micro_batches(&shuffled, costs, share, &mut rng);
                let left = micro_batches.into_iter().skip(taken);
                let with_steps = left.flat_map(|micro_batch| {
                    let step = self.take_step();
                    micro_batch.into_iter().map(move |row| (row, step))
                });
                let rows: Vec<(u64, u64)> = with_steps.collect();
                let good = rows.into_iter().filter(|&(row, _)| !self.bad.contains(row));
                good.collect()
            }
            _ => shuffled
                .filter(|&row| !self.bad.contains(row))
                .skip(taken)
                .map(|row| (row, 0))
                .collect(),
        }
    }

    /// Takes the next of the lane's steps that is from this dataset, in a plan by cost.
    fn take_step(&mut self) -> u64 {
        while self.plan.0.mix.dataset_of(self.lane, self.next_step) != self.dataset {
            self.next_step += 1;
        }
        self.next_step += 1;
        self.next_step - 1
    }

    /// Returns the slots of the next window and the row groups that they need.
    fn slots(&mut self, slice: usize) -> (Vec<WindowGroup>, Vec<Slot>) {
        let rows = self.rows(slice);
        let (plan, epoch) = (&*self.plan.0, self.order.epoch);
        // Groups come in the order in which the slots need them.
        let mut groups: Vec<WindowGroup> = Vec::new();
        let mut index = std::collections::HashMap::new();
        let slots = rows
            .into_iter()
            .map(|(row, step)| {
                let layout::Place {
                    shard,
                    group,
                    row_in_group,
                } = plan.layout.place(row);
                let window_group = *index.entry((shard, group)).or_insert_with(|| {
                    groups.push(WindowGroup {
                        shard,
                        group,
                        n_slots: 0,
                    });
                    groups.len() as u32 - 1
                });
                groups[window_group as usize].n_slots += 1;
                Slot {
                    epoch,
                    row,
                    shard,
                    group,
                    row_in_group,
                    window_group,
                    step,
                }
            })
            .collect();
        (groups, slots)
    }
}

impl Iterator for LaneWindows {
    type Item = Window;

    fn next(&mut self) -> Option<Window> {
        loop {
            let epoch = self.order.epoch;
            let slice = self.order_of_dataset().slice_of(self.lane, epoch);
            if self.window == self.order_of_dataset().n_windows(&self.order, slice) {
                self.order = self.order_of_dataset().order(epoch + 1);
                self.window = 0;
                continue;
            }
            let (groups, slots) = self.slots(slice);
            self.window += 1;
            self.taken = 0;
            if !slots.is_empty() {
                return Some(Window {
                    epoch,
                    groups,
                    slots,
                });
            }
        }
    }
}
