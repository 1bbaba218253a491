//! Targets: the normalised and averaged outputs of the teacher's last blocks.

use burn::tensor::Tensor;

use crate::model::{Norm, instance_norm, layer_norm};
use crate::objective::config::TargetConfig;

/// Epsilon of the norms of targets: PyTorch's default.
const EPS: f64 = 1e-5;

/// The running average over the selected blocks of a teacher.
pub(super) struct Average<'a> {
    config: &'a TargetConfig,
    block_indices: Vec<usize>,
    sum: Option<Tensor<3>>,
}

impl<'a> Average<'a> {
    /// Starts the average for a teacher of `depth` blocks.
    pub(super) fn new(config: &'a TargetConfig, depth: usize) -> Self {
        Self {
            config,
            block_indices: config.block_indices(depth),
            sum: None,
        }
    }

    /// Adds the output of a block without the class token, `[B, N, D]`, as often as the config lists
    /// the block.
    pub(super) fn add(&mut self, block_idx: usize, output: impl FnOnce() -> Tensor<3>) {
        let listed = self.block_indices.iter().filter(|&&idx| idx == block_idx);
        let n_times = listed.count();
        if n_times == 0 {
            return;
        }
        let mut output = normalise(self.config.each, output());
        if n_times > 1 {
            output = output.mul_scalar(n_times as f64);
        }
        self.sum = Some(match self.sum.take() {
            Some(sum) => sum + output,
            None => output,
        });
    }

    /// Returns the targets, `[B, N, D]`.
    pub(super) fn finish(self) -> Tensor<3> {
        let sum = self.sum.expect("a config that has no problems");
        let mean = sum.div_scalar(self.block_indices.len() as f64);
        normalise(self.config.average, mean)
    }
}

fn normalise(norm: Norm, x: Tensor<3>) -> Tensor<3> {
    match norm {
        Norm::None => x,
        Norm::Layer => layer_norm(x, EPS),
        Norm::Instance => instance_norm(x, EPS),
    }
}
