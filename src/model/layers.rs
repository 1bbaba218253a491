//! Linear, convolution, MLP and DropPath.

use burn::module::{Module, Param};
use burn::tensor::module::{conv2d, linear};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Distribution, Tensor, activation};

use super::parameter;

/// y = x·Wᵀ + b.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[out, in]`, as PyTorch has it.
    pub weight: Param<Tensor<2>>,
    /// `[out]`.
    pub bias: Option<Param<Tensor<1>>>,
}

impl Linear {
    /// With bias.
    pub fn new(n_in: usize, n_out: usize, device: &Device) -> Self {
        Self {
            weight: parameter([n_out, n_in], device),
            bias: Some(parameter([n_out], device)),
        }
    }

    /// Without bias.
    pub fn without_bias(n_in: usize, n_out: usize, device: &Device) -> Self {
        Self {
            weight: parameter([n_out, n_in], device),
            bias: None,
        }
    }

    /// # Shapes
    ///
    /// - input: `[rows, in]`; output: `[rows, out]`
    pub fn forward_rows(&self, x: Tensor<2>) -> Tensor<2> {
        linear(
            x,
            self.weight.val().transpose(),
            self.bias.as_ref().map(Param::val),
        )
    }

    /// # Shapes
    ///
    /// - input: `[B, S, in]`; output: `[B, S, out]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        // As rows it is one matrix product; burn would batch it.
        let [b, s, n_in] = x.dims();
        let y = self.forward_rows(x.reshape([b * s, n_in]));
        let [_, n_out] = y.dims();
        y.reshape([b, s, n_out])
    }
}

/// A convolution over a grid, stride 1, output as large as the input.
#[derive(Module, Debug)]
pub struct Conv2d {
    /// `[out, in / groups, kernel, kernel]`, as PyTorch has it.
    pub weight: Param<Tensor<4>>,
    /// `[out]`.
    pub bias: Param<Tensor<1>>,
    groups: usize,
}

impl Conv2d {
    /// `kernel` is odd; `groups` divides both channel counts.
    pub fn new(n_in: usize, n_out: usize, kernel: usize, groups: usize, device: &Device) -> Self {
        Self {
            weight: parameter([n_out, n_in / groups, kernel, kernel], device),
            bias: parameter([n_out], device),
            groups,
        }
    }

    /// # Shapes
    ///
    /// - input: `[B, height, width, in]`; output: `[B, height, width, out]`
    ///
    /// Channels last: the permuted views are libtorch's own `channels_last`, nothing is copied.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [_, _, kernel, _] = self.weight.dims();
        let options = ConvOptions::new([1, 1], [kernel / 2, kernel / 2], [1, 1], self.groups);
        let x = x.permute([0, 3, 1, 2]);
        let y = conv2d(x, self.weight.val(), Some(self.bias.val()), options);
        y.permute([0, 2, 3, 1])
    }
}

/// Two linear layers with the exact (erf) GELU between.
#[derive(Module, Debug)]
pub struct Mlp {
    fc1: Linear,
    fc2: Linear,
}

impl Mlp {
    /// `dim` → `hidden_dim` → `dim`.
    pub fn new(dim: usize, hidden_dim: usize, device: &Device) -> Self {
        Self {
            fc1: Linear::new(dim, hidden_dim, device),
            fc2: Linear::new(hidden_dim, dim, device),
        }
    }

    /// # Shapes
    ///
    /// - input and output: `[B, S, D]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [b, s, dim] = x.dims();
        let hidden = activation::gelu(self.fc1.forward_rows(x.reshape([b * s, dim])));
        self.fc2.forward_rows(hidden).reshape([b, s, dim])
    }
}

/// Drops a residual branch for whole samples (Huang et al. 2016), and scales up the others.
///
/// It acts on the autodiff device alone: teacher and evaluation live on the plain one.
#[derive(Module, Debug)]
pub struct DropPath {
    prob: f64,
}

impl DropPath {
    /// `prob` is the probability to drop.
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

/// Dropout's factors: 0 with probability `prob`, else 1 / (1 − `prob`).
pub(super) fn kept<const R: usize>(shape: [usize; R], prob: f64, device: &Device) -> Tensor<R> {
    let keep = 1.0 - prob;
    let device = device.clone().without_autodiff();
    Tensor::random(shape, Distribution::Bernoulli(keep), &device).div_scalar(keep)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drop_path_drops_whole_samples_on_the_autodiff_device_alone() {
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
