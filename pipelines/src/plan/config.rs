//! The settings of a plan.

use crate::DataConfig;
use crate::config::StepSize;

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
