//! The order of one dataset: its epochs, cut into slices that lanes walk in turn.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use super::bad_rows::BadRows;
use super::config::PlanConfig;
use super::cost::{self, Costs};
use super::layout::{self, Chunks, Layout};
use super::permutation::EpochOrder;
use crate::rng::{Purpose, Rng};

/// Orders of this many epochs are kept: lanes are in two at most, and fetch ahead of that.
const KEPT_EPOCHS: usize = 4;

/// The order of one dataset, whose rows are numbered as those of all datasets of the plan together.
#[derive(Debug)]
pub(super) struct DatasetOrder {
    pub(super) rows: Range<u64>,
    pub(super) chunks: Chunks,
    /// Rows that an epoch takes.
    pub(super) n_planned: u64,
    /// Seed of this dataset alone, so that datasets of one size are not shuffled alike.
    pub(super) seed: u64,
    lanes: usize,
    window_chunks: usize,
    orders: Mutex<Vec<Arc<EpochOrder>>>,
}

/// The start of a lane in a dataset: the epoch, the window of its slice, and the good rows (in a plan
/// by cost, the micro-batches) already taken from that window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LaneStart {
    pub(super) epoch: u64,
    pub(super) window: usize,
    pub(super) taken: u64,
}

impl DatasetOrder {
    pub(super) fn new(
        layout: &Layout,
        dataset: usize,
        config: &PlanConfig,
        costs: Option<&Costs>,
    ) -> Self {
        let rows = layout.dataset_rows(dataset);
        let seed = match dataset {
            0 => config.seed,
            dataset => {
                Rng::for_name(config.seed, Purpose::Order, &format!("set {dataset}")).next_u64()
            }
        };
        Self {
            n_planned: costs.map_or(rows.end - rows.start, |costs| costs.n_planned_in(&rows)),
            rows,
            chunks: Chunks::new(layout, dataset, config.lanes, costs),
            seed,
            lanes: config.lanes,
            window_chunks: config.window_chunks,
            orders: Mutex::default(),
        }
    }

    fn n_rows(&self) -> u64 {
        self.rows.end - self.rows.start
    }

    /// Returns the slice that a lane walks in an epoch.
    pub(super) fn slice_of(&self, lane: usize, epoch: u64) -> usize {
        let lanes = self.lanes as u64;
        ((lane as u64 + epoch % lanes) % lanes) as usize
    }

    /// Returns the number of rows of a slice, in a plan by count.
    pub(super) fn slice_rows(&self, slice: usize) -> u64 {
        let (slice, lanes) = (slice as u64, self.lanes as u64);
        layout::part(slice + 1, self.n_rows(), lanes) - layout::part(slice, self.n_rows(), lanes)
    }

    /// Returns the number of windows of a slice: as few as `window_chunks` allows, of nearly as many
    /// chunks each.
    pub(super) fn n_windows(&self, order: &EpochOrder, slice: usize) -> usize {
        order.n_chunks(slice).div_ceil(self.window_chunks)
    }

    /// Returns the chunks of one window, as ranges of rows, in the order of the slice.
    pub(super) fn chunks_of_window(
        &self,
        order: &EpochOrder,
        slice: usize,
        window: usize,
    ) -> impl Iterator<Item = Range<u64>> {
        let (n_chunks, n_windows) = (order.n_chunks(slice), self.n_windows(order, slice));
        let chunks = window * n_chunks / n_windows..(window + 1) * n_chunks / n_windows;
        chunks.map(move |nth| order.chunk_rows(&self.chunks, slice, nth))
    }

    /// Returns the order of an epoch, made where it is not kept.
    pub(super) fn order(&self, epoch: u64) -> Arc<EpochOrder> {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(order) = orders.iter().find(|order| order.epoch == epoch) {
            return order.clone();
        }
        let order = Arc::new(EpochOrder::new(&self.chunks, self.seed, epoch, self.lanes));
        if orders.len() == KEPT_EPOCHS {
            orders.remove(0);
        }
        orders.push(order.clone());
        order
    }

    /// Returns the start of each lane after `targets` good samples.
    pub(super) fn starts(
        &self,
        lanes: Range<usize>,
        targets: &[u64],
        bad: &BadRows,
    ) -> Vec<LaneStart> {
        let places = if bad.count_in(self.rows.clone()) == 0 {
            let each = lanes.clone().zip(targets);
            each.map(|(lane, &target)| self.place(lane, target))
                .collect()
        } else {
            self.places_after_bad_rows(lanes.clone(), targets, bad)
        };
        let start = |(lane, (epoch, mut taken)): (usize, (u64, u64))| {
            let order = self.order(epoch);
            let slice = self.slice_of(lane, epoch);
            for window in 0.. {
                let chunks = self.chunks_of_window(&order, slice, window);
                let n_good: u64 = chunks
                    .map(|rows| rows.end - rows.start - bad.count_in(rows))
                    .sum();
                if taken < n_good {
                    return LaneStart {
                        epoch,
                        window,
                        taken,
                    };
                }
                taken -= n_good;
            }
            unreachable!("a place is in one of its slice's windows")
        };
        lanes.zip(places).map(start).collect()
    }

    /// Returns the epoch that a lane is in after `target` samples, and the samples taken of it.
    fn place(&self, lane: usize, target: u64) -> (u64, u64) {
        // In as many epochs as there are lanes, a lane walks each slice once.
        let mut epoch = target / self.n_rows() * self.lanes as u64;
        let mut taken = target % self.n_rows();
        loop {
            let in_epoch = self.slice_rows(self.slice_of(lane, epoch));
            if taken < in_epoch {
                return (epoch, taken);
            }
            taken -= in_epoch;
            epoch += 1;
        }
    }

    /// Does the same for many lanes, each after the bad rows of its slices.
    fn places_after_bad_rows(
        &self,
        lanes: Range<usize>,
        targets: &[u64],
        bad: &BadRows,
    ) -> Vec<(u64, u64)> {
        let mut left = targets.to_vec();
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

    /// Counts the bad rows in each slice of an epoch.
    fn bad_of_slices(&self, epoch: u64, bad: &BadRows) -> Vec<u64> {
        let mut has_bad = vec![false; self.chunks.len()];
        for row in bad.in_range(self.rows.clone()) {
            has_bad[self.chunks.of_row(row) as usize] = true;
        }
        let order = EpochOrder::new(&self.chunks, self.seed, epoch, self.lanes);
        let mut n_bad = vec![0; self.lanes];
        let mut passed = 0;
        for &chunk in order.chunks() {
            let rows = self.chunks.rows(chunk);
            if has_bad[chunk as usize] {
                for row in bad.in_range(rows.clone()) {
                    let at = passed + row - rows.start;
                    n_bad[layout::part_of(at, self.n_rows(), self.lanes as u64)] += 1;
                }
            }
            passed += rows.end - rows.start;
        }
        n_bad
    }

    /// Returns the start of each lane after `targets` micro-batches, in a plan by cost: bad rows do not
    /// move it.
    pub(super) fn starts_by_cost(
        &self,
        lanes: Range<usize>,
        targets: &[u64],
        costs: &Costs,
        lane_share: u64,
    ) -> Vec<LaneStart> {
        let mut left = targets.to_vec();
        let mut starts = vec![None; lanes.len()];
        for epoch in 0.. {
            let order = self.order(epoch);
            for ((lane, left), start) in lanes.clone().zip(&mut left).zip(&mut starts) {
                if start.is_some() {
                    continue;
                }
                let slice = self.slice_of(lane, epoch);
                for window in 0..self.n_windows(&order, slice) {
                    let n_micro_batches =
                        self.n_micro_batches(&order, (slice, window), costs, lane_share);
                    if *left < n_micro_batches {
                        let taken = *left;
                        *start = Some(LaneStart {
                            epoch,
                            window,
                            taken,
                        });
                        break;
                    }
                    *left -= n_micro_batches;
                }
            }
            if starts.iter().all(Option::is_some) {
                break;
            }
        }
        starts.into_iter().flatten().collect()
    }

    /// Returns the number of micro-batches, and so of steps, in a window of a slice.
    fn n_micro_batches(
        &self,
        order: &EpochOrder,
        (slice, window): (usize, usize),
        costs: &Costs,
        lane_share: u64,
    ) -> u64 {
        let rows = self.chunks_of_window(order, slice, window).flatten();
        let mut costs: Vec<u32> = rows
            .map(|row| costs.of(row))
            .filter(|&cost| cost > 0)
            .collect();
        costs.sort_unstable();
        cost::n_micro_batches(&costs, lane_share) as u64
    }
}
