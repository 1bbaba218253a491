//! Watches loss and gradient norm of every step on the device. Reading them at every step would make
//! the host wait for the device.

use burn::tensor::{Device, Tensor};

/// Names of the quantities, in the order of [`Finite`]'s tensors.
const NAMES: [&str; 2] = ["train/loss", "train/grad_norm"];

/// Counts, on the device, the steps up to the first that is not finite.
pub(super) struct Finite {
    /// The step after which it counts.
    from: u64,
    /// 1 while every value was finite, else 0, `[2]`.
    unbroken: Tensor<1>,
    /// Steps before the first value that is not finite, `[2]`.
    n_steps: Tensor<1>,
}

impl Finite {
    /// Counts from the step after `step` on.
    pub(super) fn from(step: u64, device: &Device) -> Self {
        Self {
            from: step,
            unbroken: Tensor::ones([NAMES.len()], device),
            n_steps: Tensor::zeros([NAMES.len()], device),
        }
    }

    /// Adds a step with its `loss` and gradient norm, `[1]` each.
    pub(super) fn add(&mut self, loss: Tensor<1>, grad_norm: Tensor<1>) {
        let is_finite = Tensor::cat(vec![loss, grad_norm], 0).is_finite().float();
        self.unbroken = self.unbroken.clone() * is_finite;
        self.n_steps = self.n_steps.clone() + self.unbroken.clone();
    }

    /// Returns the first step up to `step` that is not finite, with the name of the quantity, and
    /// counts again from there. The host waits for the device.
    pub(super) fn read(&mut self, step: u64, device: &Device) -> Option<(u64, &'static str)> {
        let counted = std::mem::replace(self, Self::from(step, device));
        let n_steps = counted.n_steps.into_data();
        let finite_steps = n_steps.iter::<f32>().map(|n| n as u64);
        let broken = finite_steps
            .zip(NAMES)
            .filter(|(n, _)| counted.from + n < step);
        let first = broken.min_by_key(|(n, _)| *n);
        first.map(|(n, name)| (counted.from + n + 1, name))
    }
}
