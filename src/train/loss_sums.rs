//! Losses and features of a step, summed over its micro-batches.

use burn::tensor::Tensor;

use crate::objective::{FeatureSums, Output};

/// Sums of a step over its micro-batches, on the device.
#[derive(Default)]
pub(super) struct LossSums {
    /// Number of masked positions.
    pub count: f64,
    pub loss: Option<Tensor<1>>,
    pub regression: Option<Tensor<1>>,
    pub cls: Option<Tensor<1>>,
    /// Sums over targets, predictions and local features, in this order.
    pub features: Option<[FeatureSums; 3]>,
}

impl LossSums {
    /// Adds the output of a micro-batch.
    pub(super) fn add(&mut self, output: Output) {
        self.count += output.count;
        add(&mut self.loss, output.loss_sum.inner());
        add(&mut self.regression, output.regression_sum);
        if let Some(cls) = output.cls_sum {
            add(&mut self.cls, cls);
        }
        let [targets, predictions, local] =
            [output.targets, output.predictions, output.local].map(FeatureSums::of);
        self.features = Some(match self.features.take() {
            Some([a, b, c]) => [a.merge(targets), b.merge(predictions), c.merge(local)],
            None => [targets, predictions, local],
        });
    }
}

fn add(sum: &mut Option<Tensor<1>>, term: Tensor<1>) {
    *sum = Some(match sum.take() {
        Some(sum) => sum + term,
        None => term,
    });
}
