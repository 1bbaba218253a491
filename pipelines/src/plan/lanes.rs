//! One lane's endless stream of windows, from any step on.

use std::ops::Range;
use std::sync::Arc;

use super::permutation::{EpochOrder, runs_rng, window_order};
use super::{BadRows, Plan, Slot, Window, WindowGroup, cost, layout};
use crate::config::StepSize;
use crate::{Error, Result};

/// One lane's endless stream of windows.
///
/// The slots of its windows, one after another, are the lane's samples from the step on that it
/// was made for. In a plan by count every [`Plan::lane_share`] good ones make a step; in one by
/// cost each slot says which step it belongs to. Known bad rows are left out. Looking ahead is
/// cheap: a window takes 48 bytes per slot and no I/O.
#[derive(Debug)]
pub struct LaneStream {
    plan: Plan,
    lane: usize,
    bad: Arc<BadRows>,
    order: Arc<EpochOrder>,
    /// The window of the lane's slice that comes next.
    window: usize,
    /// What was taken of that window before: good rows, or runs in a plan by cost.
    taken: u64,
    /// In a plan by cost, the step that the next run belongs to.
    next_step: u64,
}

/// Where a lane stands: the epoch, the window of its slice, and what was taken of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RunPlace {
    epoch: u64,
    window: usize,
    taken: u64,
}

impl Plan {
    /// The streams of `lanes` from `step` on, where `bad` holds the bad rows that were met before.
    ///
    /// Costs arithmetic and the order of one epoch; with bad rows the orders of all epochs before
    /// it (25 ms each for a million row groups), one at a time; by cost also the sorted lengths of
    /// their rows. Nothing is read.
    ///
    /// # Errors
    ///
    /// [`Error::TooManyBadSamples`] if every row is bad.
    pub fn lanes(&self, lanes: Range<usize>, step: u64, bad: &BadRows) -> Result<Vec<LaneStream>> {
        let rows = self.0.layout.rows();
        let n_planned = self.n_planned();
        let n_bad = match self.costs() {
            None => bad.count_in(0..rows),
            Some(costs) => {
                let known = bad.in_range(0..rows);
                known.filter(|&row| costs.of(row) > 0).count() as u64
            }
        };
        if n_bad == n_planned {
            return Err(Error::TooManyBadSamples {
                failed: n_planned,
                seen: n_planned,
                limit: 1.0,
                last: "every row of the set is bad".into(),
            });
        }
        let bad = Arc::new(bad.clone());
        let share = match self.lane_share() {
            StepSize::Samples(samples) => samples as u64,
            StepSize::Cost(share) => {
                let places = self.run_places(lanes.clone(), step, share);
                let streams = lanes.zip(places);
                return Ok(streams
                    .map(|(lane, place)| LaneStream {
                        plan: self.clone(),
                        lane,
                        bad: bad.clone(),
                        order: self.order(place.epoch),
                        window: place.window,
                        taken: place.taken,
                        next_step: step,
                    })
                    .collect());
            }
        };
        let target = step * share;
        let places = if bad.is_empty() {
            lanes.clone().map(|lane| self.place(lane, target)).collect()
        } else {
            self.places_past_bad_rows(lanes.clone(), target, &bad)
        };
        let streams = lanes.zip(places);
        Ok(streams
            .map(|(lane, place)| LaneStream::new(self, lane, &bad, place))
            .collect())
    }

    /// Where lanes stand after `step` steps by cost: bad rows do not move them.
    fn run_places(&self, lanes: Range<usize>, step: u64, share: u64) -> Vec<RunPlace> {
        let mut left = vec![step; lanes.len()];
        let mut places = vec![None; lanes.len()];
        for epoch in 0.. {
            let order = self.order(epoch);
            for ((lane, left), place) in lanes.clone().zip(&mut left).zip(&mut places) {
                if place.is_some() {
                    continue;
                }
                let slice = self.slice_of(lane, epoch);
                for window in 0..self.n_windows(&order, slice) {
                    let n_runs = self.n_runs(&order, slice, window, share);
                    if *left < n_runs {
                        let taken = *left;
                        *place = Some(RunPlace {
                            epoch,
                            window,
                            taken,
                        });
                        break;
                    }
                    *left -= n_runs;
                }
            }
            if places.iter().all(Option::is_some) {
                break;
            }
        }
        places.into_iter().flatten().collect()
    }

    /// Steps that a window of a slice is good for.
    fn n_runs(&self, order: &EpochOrder, slice: usize, window: usize, share: u64) -> u64 {
        let costs = self.costs().expect("a plan by cost");
        let rows = self.window_pieces(order, slice, window).flatten();
        let mut costs: Vec<u32> = rows
            .map(|row| costs.of(row))
            .filter(|&cost| cost > 0)
            .collect();
        costs.sort_unstable();
        cost::n_runs(&costs, share) as u64
    }

    /// Where a lane stands after `target` samples: the epoch, and the samples taken of it.
    fn place(&self, lane: usize, target: u64) -> (u64, u64) {
        // In as many epochs as there are lanes, a lane walks each slice once.
        let rows = self.0.layout.rows();
        let mut epoch = target / rows * self.0.config.lanes as u64;
        let mut taken = target % rows;
        loop {
            let in_epoch = self.slice_rows(self.slice_of(lane, epoch));
            if taken < in_epoch {
                return (epoch, taken);
            }
            taken -= in_epoch;
            epoch += 1;
        }
    }

    /// The same for many lanes, each past the bad rows of its slices.
    fn places_past_bad_rows(
        &self,
        lanes: Range<usize>,
        target: u64,
        bad: &BadRows,
    ) -> Vec<(u64, u64)> {
        let mut left = vec![target; lanes.len()];
        let mut places = vec![None; lanes.len()];
        for epoch in 0.. {
            let bad_of_slice = self.bad_of_slices(epoch, bad);
            for ((lane, left), place) in lanes.clone().zip(&mut left).zip(&mut places) {
                let slice = self.slice_of(lane, epoch);
                let in_epoch = self.slice_rows(slice) - bad_of_slice[slice];
                if place.is_none() {
                    if *left < in_epoch {
                        *place = Some((epoch, *left));
                    } else {
                        *left -= in_epoch;
                    }
                }
            }
            if places.iter().all(Option::is_some) {
                break;
            }
        }
        places.into_iter().flatten().collect()
    }

    /// How many bad rows lie in each slice of an epoch.
    fn bad_of_slices(&self, epoch: u64, bad: &BadRows) -> Vec<u64> {
        let (chunks, n_slices) = (&self.0.chunks, self.0.config.lanes);
        let total = self.0.layout.rows();
        let mut has_bad = vec![false; chunks.len()];
        for row in bad.in_range(0..total) {
            has_bad[chunks.of_row(row) as usize] = true;
        }
        let order = EpochOrder::new(chunks, self.0.config.seed, epoch, n_slices);
        let mut n_bad = vec![0; n_slices];
        let mut passed = 0;
        for &chunk in order.chunks() {
            let rows = chunks.rows(chunk);
            if has_bad[chunk as usize] {
                for row in bad.in_range(rows.clone()) {
                    n_bad[layout::part_of(passed + row - rows.start, total, n_slices as u64)] += 1;
                }
            }
            passed += rows.end - rows.start;
        }
        n_bad
    }
}

impl LaneStream {
    fn new(plan: &Plan, lane: usize, bad: &Arc<BadRows>, (epoch, taken): (u64, u64)) -> Self {
        let (plan, bad, order) = (plan.clone(), bad.clone(), plan.order(epoch));
        let mut stream = Self {
            plan,
            lane,
            bad,
            order,
            window: 0,
            taken,
            next_step: 0,
        };
        loop {
            let slice = stream.plan.slice_of(lane, epoch);
            let pieces = stream
                .plan
                .window_pieces(&stream.order, slice, stream.window);
            let good: u64 = pieces
                .map(|rows| rows.end - rows.start - stream.bad.count_in(rows))
                .sum();
            if stream.taken < good {
                return stream;
            }
            stream.taken -= good;
            stream.window += 1;
        }
    }

    /// The rows of the window that comes next, past those that are bad or taken, and their steps.
    fn rows(&mut self, slice: usize) -> Vec<(u64, u64)> {
        let plan = self.plan.clone();
        let (seed, epoch) = (plan.0.config.seed, self.order.epoch);
        let pieces = plan.window_pieces(&self.order, slice, self.window);
        let rows: Vec<u64> = pieces.flatten().collect();
        let order = window_order(rows.len(), seed, epoch, slice, self.window);
        let shuffled = order.into_iter().map(|at| rows[at as usize]);
        let taken = self.taken as usize;
        match (plan.lane_share(), plan.costs()) {
            (StepSize::Cost(share), Some(costs)) => {
                let shuffled: Vec<u64> = shuffled.collect();
                let mut rng = runs_rng(seed, epoch, slice, self.window);
                let runs = cost::runs(&shuffled, costs, share, &mut rng);
                let left = runs.get(taken..).unwrap_or_default();
                let first_step = self.next_step;
                self.next_step += left.len() as u64;
                let steps = left.iter().zip(first_step..);
                let rows = steps.flat_map(|(run, step)| run.iter().map(move |&row| (row, step)));
                rows.filter(|&(row, _)| !self.bad.contains(row)).collect()
            }
            _ => shuffled
                .filter(|&row| !self.bad.contains(row))
                .skip(taken)
                .map(|row| (row, 0))
                .collect(),
        }
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
            let slice = self.plan.slice_of(self.lane, epoch);
            if self.window == self.plan.n_windows(&self.order, slice) {
                self.order = self.plan.order(epoch + 1);
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
