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

mod bad_rows;
mod cost;
mod lanes;
mod layout;
mod permutation;
mod report;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};

pub use bad_rows::BadRows;
pub use cost::Costs;
pub use lanes::LaneStream;
pub use layout::{Layout, Place};
pub use report::{CostReport, Report};

use crate::config::StepSize;
use crate::{DataConfig, Error, Result};
use layout::Chunks;
use permutation::EpochOrder;

/// Orders of this many epochs are kept: lanes are in two at most, and fetch ahead of that.
const KEPT_EPOCHS: usize = 4;

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
    chunks: Chunks,
    config: PlanConfig,
    orders: Mutex<Vec<Arc<EpochOrder>>>,
}

/// One sample's place in the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slot {
    /// Epoch.
    pub epoch: u64,
    /// Number of the row in the whole set.
    pub row: u64,
    /// Shard of the set.
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
    /// Shard of the set.
    pub shard: u32,
    /// Row group of the shard.
    pub group: u32,
    /// Slots of the window that lie in it; after as many it can be let go.
    pub n_slots: u32,
}

impl Plan {
    /// Plans the order of a set with this layout; `costs` are needed where steps have a cost, and
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
        let costs = match config.step {
            StepSize::Samples(_) => None,
            StepSize::Cost(_) => Some(costs.expect("steps by cost need costs")),
        };
        let mut problems = Vec::new();
        let lanes = config.lanes;
        if layout.rows() == 0 {
            problems.push("data.train: the set has no rows to plan".to_owned());
        }
        if let Some(costs) = &costs {
            assert_eq!(costs.len(), layout.rows(), "one cost for each row");
            if costs.n_planned() == 0 && layout.rows() > 0 {
                problems.push("data.train: every row is too short to be planned".to_owned());
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
                let longest = costs.as_ref().map_or(0, Costs::longest);
                let share = cost / lanes.max(1) as u64;
                if lanes == 0 || share < longest.into() {
                    problems.push(format!(
                        "data.lanes: {lanes} lanes take {share} each of a step, less than the \
                         longest sample, {longest}"
                    ));
                }
            }
        }
        if config.window_chunks == 0 {
            problems.push("data.window_chunks: must be at least 1".to_owned());
        }
        if !problems.is_empty() {
            return Err(Error::Config(problems));
        }
        let chunks = Chunks::new(&layout, config.lanes, costs);
        Ok(Self(Arc::new(Inner {
            layout,
            chunks,
            config,
            orders: Mutex::default(),
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
        self.0.chunks.costs()
    }

    /// Rows that an epoch takes: all, but for those that a plan by cost leaves out.
    pub fn n_planned(&self) -> u64 {
        self.costs().map_or(self.0.layout.rows(), Costs::n_planned)
    }

    /// The settings it was made with.
    pub fn config(&self) -> &PlanConfig {
        &self.0.config
    }

    /// Which row lies where.
    pub fn layout(&self) -> &Layout {
        &self.0.layout
    }

    /// Number of chunks that an epoch permutes.
    pub fn n_chunks(&self) -> usize {
        self.0.chunks.len()
    }

    /// Whether row groups are cut into runs, each read by the lanes that hold a run of it.
    pub fn cuts_groups(&self) -> bool {
        self.n_chunks() > self.0.layout.n_groups()
    }

    fn slice_of(&self, lane: usize, epoch: u64) -> usize {
        let lanes = self.0.config.lanes as u64;
        ((lane as u64 + epoch % lanes) % lanes) as usize
    }

    fn slice_rows(&self, slice: usize) -> u64 {
        let (slice, rows, lanes) = (
            slice as u64,
            self.0.layout.rows(),
            self.0.config.lanes as u64,
        );
        layout::part(slice + 1, rows, lanes) - layout::part(slice, rows, lanes)
    }

    /// Windows of a slice: as few as `window_chunks` allows, of nearly as many pieces each.
    fn n_windows(&self, order: &EpochOrder, slice: usize) -> usize {
        order.n_pieces(slice).div_ceil(self.0.config.window_chunks)
    }

    /// The pieces of one window, as ranges of rows, in the order of the slice.
    fn window_pieces(
        &self,
        order: &EpochOrder,
        slice: usize,
        window: usize,
    ) -> impl Iterator<Item = std::ops::Range<u64>> {
        let (n_pieces, n_windows) = (order.n_pieces(slice), self.n_windows(order, slice));
        let pieces = window * n_pieces / n_windows..(window + 1) * n_pieces / n_windows;
        pieces.map(move |piece| order.piece(&self.0.chunks, slice, piece))
    }

    fn order(&self, epoch: u64) -> Arc<EpochOrder> {
        let mut orders = self.0.orders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(order) = orders.iter().find(|order| order.epoch == epoch) {
            return order.clone();
        }
        let Inner { chunks, config, .. } = &*self.0;
        let order = Arc::new(EpochOrder::new(chunks, config.seed, epoch, config.lanes));
        if orders.len() == KEPT_EPOCHS {
            orders.remove(0);
        }
        orders.push(order.clone());
        order
    }
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
