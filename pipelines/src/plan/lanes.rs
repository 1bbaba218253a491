//! The endless streams of windows of the lanes, from any step on.

use std::ops::Range;
use std::sync::Arc;

use super::bad_rows::BadRows;
use super::build::Plan;
use super::dataset::{SetOrder, Stand};
use super::permutation::{EpochOrder, runs_rng, window_order};
use super::window::{Slot, Window, WindowGroup};
use super::{cost, layout};
use crate::config::StepSize;
use crate::{Error, Result};

/// The endless stream of windows that one lane takes of one set.
///
/// The slots of its windows, one after another, are the lane's samples of that set from the step on
/// that it was made for. In a plan by count, [`Plan::mix`] says which of the samples of a step are of
/// this set; in one by cost each slot says which step it belongs to. Known bad rows are left out.
/// Looking ahead is cheap: a window takes 48 bytes per slot and no I/O.
#[derive(Debug)]
pub struct LaneStream {
    plan: Plan,
    lane: usize,
    set: usize,
    bad: Arc<BadRows>,
    order: Arc<EpochOrder>,
    /// The window of the lane's slice that comes next.
    window: usize,
    /// What was taken of that window before: good rows, or runs in a plan by cost.
    taken: u64,
    /// In a plan by cost, the first step that the next run may belong to.
    next_step: u64,
}

impl Plan {
    /// The streams of `lanes` from `step` on, where `bad` holds the bad rows that were met before:
    /// lane by lane, and for each lane set by set.
    ///
    /// Costs arithmetic and the order of one epoch of each set; with bad rows the orders of all
    /// epochs before it (25 ms each for a million row groups), one at a time; by cost also the
    /// sorted lengths of their rows. Nothing is read.
    ///
    /// # Errors
    ///
    /// [`Error::NoGoodSample`] if every row of a set is bad.
    pub fn lanes(&self, lanes: Range<usize>, step: u64, bad: &BadRows) -> Result<Vec<LaneStream>> {
        self.check_bad_rows(bad)?;
        let bad = Arc::new(bad.clone());
        let stands = self.0.sets.iter().enumerate().map(|(index, set)| {
            // What the lanes have had of this set.
            let before = |n_units: u64| -> Vec<u64> {
                let counts = lanes
                    .clone()
                    .map(|lane| self.0.mix.count(index, lane, n_units));
                counts.collect()
            };
            match (self.lane_share(), self.costs()) {
                (StepSize::Cost(share), Some(costs)) => {
                    set.stands_by_cost(lanes.clone(), &before(step), costs, share)
                }
                _ => set.stands(lanes.clone(), &before(self.units(step)), &bad),
            }
        });
        let stands: Vec<Vec<Stand>> = stands.collect();
        let mut streams = Vec::with_capacity(lanes.len() * self.0.sets.len());
        for (lane_idx, lane) in lanes.enumerate() {
            for (set, stands) in stands.iter().enumerate() {
                let Stand {
                    epoch,
                    window,
                    taken,
                } = stands[lane_idx];
                streams.push(LaneStream {
                    plan: self.clone(),
                    lane,
                    set,
                    bad: bad.clone(),
                    order: self.0.sets[set].order(epoch),
                    window,
                    taken,
                    next_step: step,
                });
            }
        }
        Ok(streams)
    }

    /// No set may be without a good row: the lanes would look for one for ever.
    fn check_bad_rows(&self, bad: &BadRows) -> Result<()> {
        let n_sets = self.0.sets.len();
        for (index, set) in self.0.sets.iter().enumerate() {
            let known = bad.in_range(set.rows.clone());
            let n_bad = match self.costs() {
                None => known.count() as u64,
                Some(costs) => known.filter(|&row| costs.of(row) > 0).count() as u64,
            };
            if n_bad == set.n_planned {
                let last = match n_sets {
                    1 => "every row of the set is known to be bad or too short".to_owned(),
                    _ => format!(
                        "every row of set {} of the mix is known to be bad or too short",
                        index + 1
                    ),
                };
                return Err(Error::NoGoodSample { last });
            }
        }
        Ok(())
    }
}

impl LaneStream {
    fn set(&self) -> &SetOrder {
        &self.plan.0.sets[self.set]
    }

    /// The rows of the window that comes next, past those that are bad or taken, and their steps.
    fn rows(&mut self, slice: usize) -> Vec<(u64, u64)> {
        let plan = self.plan.clone();
        let set = &plan.0.sets[self.set];
        let (seed, epoch) = (set.seed, self.order.epoch);
        let pieces = set.window_pieces(&self.order, slice, self.window);
        let rows: Vec<u64> = pieces.flatten().collect();
        let order = window_order(rows.len(), seed, epoch, slice, self.window);
        let shuffled = order.into_iter().map(|at| rows[at as usize]);
        let taken = self.taken as usize;
        match (plan.lane_share(), plan.costs()) {
            (StepSize::Cost(share), Some(costs)) => {
                let shuffled: Vec<u64> = shuffled.collect();
                let mut rng = runs_rng(seed, epoch, slice, self.window);
                let runs = cost::runs(&shuffled, costs, share, &mut rng);
                let left = runs.into_iter().skip(taken);
                let with_steps = left.flat_map(|run| {
                    let step = self.take_step();
                    run.into_iter().map(move |row| (row, step))
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

    /// The next of the lane's steps that is of this set, in a plan by cost.
    fn take_step(&mut self) -> u64 {
        while self.plan.0.mix.set_of(self.lane, self.next_step) != self.set {
            self.next_step += 1;
        }
        self.next_step += 1;
        self.next_step - 1
    }

    /// The slots of the window that comes next, and the groups that they lie in.
    fn slots(&mut self, slice: usize) -> (Vec<WindowGroup>, Vec<Slot>) {
        let rows = self.rows(slice);
        let (plan, epoch) = (&*self.plan.0, self.order.epoch);
        // Groups stand in the order in which the slots need them.
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

impl Iterator for LaneStream {
    type Item = Window;

    fn next(&mut self) -> Option<Window> {
        loop {
            let epoch = self.order.epoch;
            let slice = self.set().slice_of(self.lane, epoch);
            if self.window == self.set().n_windows(&self.order, slice) {
                self.order = self.set().order(epoch + 1);
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
