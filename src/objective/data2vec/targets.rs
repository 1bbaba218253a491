//! Targets: the normalised and averaged outputs of the teacher's last blocks.

use burn::tensor::Tensor;

use crate::model::{Norm, instance_norm, layer_norm};
use crate::objective::config::TargetConfig;

/// Epsilon of the norms of targets: PyTorch's default.
const EPS: f64 = 1e-5;

/// The running average over the last blocks of a teacher.
pub(super) struct Average {
    config: TargetConfig,
    first_block: usize,
    sum: Option<Tensor<3>>,
}

impl Average {
    /// Starts the average for a teacher of `depth` blocks.
    pub(super) fn new(config: TargetConfig, depth: usize) -> Self {
        Self {
            config,
            first_block: depth - config.top_k,
            sum: None,
        }
    }

    /// Adds the output of a block without the class token, `[B, N, D]`, if it is among the last K.
    pub(super) fn add(&mut self, block_idx: usize, output: impl FnOnce() -> Tensor<3>) {
        if block_idx < self.first_block {
            return;
        }
        let output = normalise(self.config.each, output());
        self.sum = Some(match self.sum.take() {
            Some(sum) => sum + output,
            None => output,
        });
    }

    /// Returns the targets, `[B, N, D]`.
    pub(super) fn finish(self) -> Tensor<3> {
        let sum = self.sum.expect("top_k is at least 1 and at most the depth");
        normalise(
            self.config.average,
            sum.div_scalar(self.config.top_k as f64),
        )
    }
}

fn normalise(norm: Norm, x: Tensor<3>) -> Tensor<3> {
    match norm {
        Norm::None => x,
        Norm::Layer => layer_norm(x, EPS),
        Norm::Instance => instance_norm(x, EPS),
    }
}
