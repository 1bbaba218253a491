//! How well steps by cost use what they are given.

use crate::plan::{Costs, Slot};

/// How well steps by cost use what they are given, measured over the same steps as the shuffle.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct CostReport {
    /// What a lane may take of each step: frames or tokens.
    pub lane_share: u64,
    /// Rows that are too short to be planned.
    pub left_out: u64,
    /// What a lane takes of a step, padding included, as a share of what it may: on average.
    pub used_share: f64,
    /// What padding (or the crop to the shortest) adds to what the samples cost, as a share.
    pub padding_share: f64,
    /// What lanes take of a step on average, as a share of what the largest of them takes: ranks
    /// wait for each other for the rest.
    pub balance: f64,
}

/// What one lane takes of one step, without and with padding.
pub(super) struct LaneCost {
    plain: u64,
    padded: u64,
}

impl LaneCost {
    pub(super) fn new(slots: &[Slot], costs: &Costs) -> Self {
        let each = slots.iter().map(|slot| u64::from(costs.of(slot.row)));
        Self {
            plain: each.clone().sum(),
            padded: slots.len() as u64 * each.max().unwrap_or(0),
        }
    }
}

/// Sums over the steps of a plan by cost.
#[derive(Default)]
pub(super) struct CostSums {
    plain: u64,
    padded: u64,
    /// The largest lane's cost of each step, times the number of lanes.
    largest: u64,
    n_lane_steps: u64,
}

impl CostSums {
    pub(super) fn add(&mut self, lanes: &[LaneCost]) {
        let n_lanes = lanes.len() as u64;
        self.plain += lanes.iter().map(|lane| lane.plain).sum::<u64>();
        self.padded += lanes.iter().map(|lane| lane.padded).sum::<u64>();
        self.largest += n_lanes * lanes.iter().map(|lane| lane.padded).max().unwrap_or(0);
        self.n_lane_steps += n_lanes;
    }

    pub(super) fn report(&self, lane_share: u64, left_out: u64) -> CostReport {
        let padded = self.padded as f64;
        CostReport {
            lane_share,
            left_out,
            used_share: padded / (self.n_lane_steps * lane_share) as f64,
            padding_share: padded / self.plain as f64 - 1.0,
            balance: padded / self.largest as f64,
        }
    }
}
