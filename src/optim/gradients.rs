//! Gradients by parameter name, summed over the micro-batches of a step.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;

use crate::params::NamePath;

/// Gradients by parameter name, flat, on the plain device.
#[derive(Default)]
pub struct Gradients {
    by_name: BTreeMap<String, Tensor<1>>,
}

impl Gradients {
    /// Adds the gradients of one backward pass for the parameters of `student`.
    ///
    /// A parameter that the loss does not reach has no gradient and is skipped, as in PyTorch.
    pub fn add<M: Module>(&mut self, student: &M, backward: burn::tensor::Gradients) {
        student.visit(&mut Collector {
            path: NamePath::default(),
            backward,
            sums: &mut self.by_name,
        });
    }

    /// Names flat gradients.
    #[cfg(test)]
    pub(crate) fn from_named(by_name: BTreeMap<String, Tensor<1>>) -> Self {
        Self { by_name }
    }

    /// The gradient of one parameter, flattened.
    pub fn get(&self, name: &str) -> Option<&Tensor<1>> {
        self.by_name.get(name)
    }

    /// Computes the global L2 norm, `[1]`, on the device.
    ///
    /// # Panics
    ///
    /// If there is no gradient: call [`Self::add`] first.
    pub fn norm(&self) -> Tensor<1> {
        let squares: Vec<Tensor<1>> = self
            .by_name
            .values()
            .map(|gradient| gradient.clone().square().sum())
            .collect();
        Tensor::cat(squares, 0).sum().sqrt()
    }

    /// Divides by `count` and, if `max_norm` is given, scales down to a global norm of at most
    /// `max_norm`. Returns the norm after the division and before the clipping, `[1]`.
    #[must_use]
    pub fn finish(&mut self, count: f64, max_norm: Option<f64>) -> Tensor<1> {
        let norm = self.norm().div_scalar(count);
        match max_norm {
            None => self.map(|gradient| gradient.div_scalar(count)),
            Some(max_norm) => {
                // PyTorch's and fairseq's factor: max_norm / (norm + 1e-6), at most 1.
                let factor = norm
                    .clone()
                    .add_scalar(1e-6)
                    .recip()
                    .mul_scalar(max_norm)
                    .clamp_max(1.0);
                let factor = factor.div_scalar(count);
                self.map(|gradient| gradient * factor.clone());
            }
        }
        norm
    }

    fn map(&mut self, f: impl Fn(Tensor<1>) -> Tensor<1>) {
        let gradients = std::mem::take(&mut self.by_name);
        self.by_name = gradients
            .into_iter()
            .map(|(name, gradient)| (name, f(gradient)))
            .collect();
    }

    pub(super) fn remove(&mut self, name: &str) -> Option<Tensor<1>> {
        self.by_name.remove(name)
    }
}

struct Collector<'a> {
    path: NamePath,
    backward: burn::tensor::Gradients,
    sums: &'a mut BTreeMap<String, Tensor<1>>,
}

impl ModuleVisitor for Collector<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(gradient) = param.val().grad_remove(&mut self.backward) else {
            return;
        };
        let gradient = gradient.flatten(0, D - 1);
        let name = self.path.name();
        let sum = match self.sums.remove(&name) {
            Some(sum) => sum + gradient,
            None => gradient,
        };
        self.sums.insert(name, sum);
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    fn gradients(values: [f32; 2]) -> Gradients {
        let tensor = Tensor::from_floats(values, &Device::flex());
        Gradients {
            by_name: BTreeMap::from([("weight".to_owned(), tensor)]),
        }
    }

    fn finish(values: [f32; 2], count: f64, max_norm: Option<f64>) -> (f32, Vec<f32>) {
        let mut gradients = gradients(values);
        let norm = gradients.finish(count, max_norm).into_scalar();
        let left = gradients.get("weight").expect("a gradient").to_data();
        (norm, left.iter().collect())
    }

    #[test]
    fn norm_is_computed_after_division_by_count() {
        let (norm, left) = finish([6.0, 8.0], 2.0, None);
        assert!((norm - 5.0).abs() < 1e-6);
        assert_eq!(left, [3.0, 4.0]);
    }

    #[test]
    fn clipping_scales_down_only_norms_above_the_limit() {
        let (_, left) = finish([6.0, 8.0], 2.0, Some(1.0));
        assert!((left[0] - 0.6).abs() < 1e-5 && (left[1] - 0.8).abs() < 1e-5);
        let (_, left) = finish([6.0, 8.0], 2.0, Some(10.0));
        assert_eq!(left, [3.0, 4.0]);
    }

    #[test]
    fn clipping_factor_has_the_epsilon_of_the_reference() {
        // Norm and limit are both 1e-6: the factor is 1e-6 / (1e-6 + 1e-6).
        let (_, left) = finish([1e-6, 0.0], 1.0, Some(1e-6));
        assert!((left[0] - 5e-7).abs() < 1e-9, "{left:?}");
    }
}
