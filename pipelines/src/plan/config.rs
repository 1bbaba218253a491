//! The settings of a plan.

use crate::DataConfig;
use crate::config::StepSize;

/// The settings that an order depends on, in addition to the layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanConfig {
    /// Seed of the order.
    pub seed: u64,
    /// Lanes that an epoch is divided among; the number of ranks divides it.
    pub lanes: usize,
    /// Size of a step, over all lanes; in samples it is a multiple of the number of lanes.
    pub step: StepSize,
    /// Chunks that a lane shuffles together.
    pub window_chunks: usize,
}

impl PlanConfig {
    /// Takes the settings of a config's data table that an order depends on, with this size of a step.
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
