//! Dropout of values and of residual branches.

use burn::module::Module;
use burn::tensor::{Device, Distribution, Tensor};

/// Drops a residual branch for entire samples (Huang et al. 2016) and scales up the others.
///
/// It acts only on the autodiff device: teacher and evaluation run on the plain one.
#[derive(Module, Debug)]
pub struct DropPath {
    prob: f64,
}

impl DropPath {
    /// Drops a sample's branch with probability `prob`.
    pub fn new(prob: f64) -> Self {
        Self { prob }
    }

    /// # Shapes
    ///
    /// - input and output: `[B, S, D]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        if self.prob == 0.0 || !x.is_autodiff() {
            return x;
        }
        let [b, _, _] = x.dims();
        let keep = kept([b, 1, 1], self.prob, &x.device());
        x * keep
    }
}

/// Applies dropout on the autodiff device; returns `x` unchanged elsewhere.
pub(crate) fn dropout<const R: usize>(x: Tensor<R>, prob: f64) -> Tensor<R> {
    if prob == 0.0 || !x.is_autodiff() {
        return x;
    }
    let keep = kept(x.dims(), prob, &x.device());
    x * keep
}

/// Draws dropout factors: 0 with probability `prob`, else 1 / (1 − `prob`).
pub(crate) fn kept<const R: usize>(shape: [usize; R], prob: f64, device: &Device) -> Tensor<R> {
    let keep = 1.0 - prob;
    let device = device.clone().without_autodiff();
    Tensor::random(shape, Distribution::Bernoulli(keep), &device).div_scalar(keep)
}

#[cfg(test)]
mod tests {
    use std::sync::PoisonError;

    use super::*;

    #[test]
    fn drop_path_drops_entire_samples_only_on_the_autodiff_device() {
        let _alone = crate::GENERATOR
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let drop_path = DropPath::new(0.25);
        let x = Tensor::<3>::ones([200, 2, 3], &Device::flex());
        let plain = drop_path.forward(x.clone()).into_data();
        assert!(
            plain
                .iter::<f32>()
                .all(|value| value.to_bits() == 1_f32.to_bits())
        );

        let dropped = drop_path.forward(x.autodiff()).inner().into_data();
        let samples: Vec<f32> = dropped.iter::<f32>().collect();
        let scale = 1.0_f32 / 0.75;
        let mut n_dropped = 0;
        for sample in samples.chunks_exact(6) {
            assert!(
                sample
                    .iter()
                    .all(|value| value.to_bits() == sample[0].to_bits())
            );
            assert!(sample[0] == 0.0 || (sample[0] - scale).abs() < 1e-6);
            n_dropped += usize::from(sample[0] == 0.0);
        }
        // Expected 50, five standard deviations are 31.
        assert!((19..=81).contains(&n_dropped), "{n_dropped} of 200");
    }
}
