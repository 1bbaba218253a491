//! The use of steps in a plan by cost.

use crate::plan::cost::Costs;
use crate::plan::window::Slot;

/// The use of steps in a plan by cost, measured over the same steps as the shuffle.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CostReport {
    /// Most frames or tokens that a micro-batch may take, padding included.
    pub lane_share: u64,
    /// Rows that are too short to be planned.
    pub left_out: u64,
    /// Average cost of a micro-batch, padding included, as a share of [`lane_share`](Self::lane_share).
    pub used_share: f64,
    /// Cost that padding (or the crop to the shortest) adds, as a share of the samples' own cost.
    pub padding_share: f64,
    /// For each number of ranks that divides the lanes, from two on: the mean cost of a rank's share of
    /// a step, as a share of the largest rank's. For the rest of a step ranks wait for each other.
    pub balance: Vec<(usize, f64)>,
}

/// The cost of one micro-batch, without and with padding.
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

/// Costs summed over the steps of a plan by cost.
pub(super) struct CostSums {
    plain: u64,
    padded: u64,
    /// By number of ranks: the largest rank's cost of each step, times that number, summed.
    largest: Vec<(usize, u64)>,
    n_lane_steps: u64,
}

impl CostSums {
    pub(super) fn new(lanes: usize) -> Self {
        let worlds = (2..=lanes).filter(|world| lanes.is_multiple_of(*world));
        Self {
            plain: 0,
            padded: 0,
            largest: worlds.map(|world| (world, 0)).collect(),
            n_lane_steps: 0,
        }
    }

    pub(super) fn add(&mut self, lanes: &[LaneCost]) {
        self.plain += lanes.iter().map(|lane| lane.plain).sum::<u64>();
        self.padded += lanes.iter().map(|lane| lane.padded).sum::<u64>();
        for (world, largest) in &mut self.largest {
            let ranks = lanes.chunks(lanes.len() / *world);
            let ranks = ranks.map(|lanes| lanes.iter().map(|lane| lane.padded).sum::<u64>());
            *largest += *world as u64 * ranks.max().unwrap_or(0);
        }
        self.n_lane_steps += lanes.len() as u64;
    }

    pub(super) fn report(&self, lane_share: u64, left_out: u64) -> CostReport {
        let padded = self.padded as f64;
        let balance = self.largest.iter();
        CostReport {
            lane_share,
            left_out,
            used_share: padded / (self.n_lane_steps * lane_share) as f64,
            padding_share: padded / self.plain as f64 - 1.0,
            balance: balance
                .map(|&(world, largest)| (world, padded / largest as f64))
                .collect(),
        }
    }
}
