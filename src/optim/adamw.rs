//! The update of `AdamW` (Loshchilov & Hutter 2019), parameter by parameter.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::Tensor;

use super::config::{EpsForm, OptimConfig};
use super::gradients::Gradients;
use crate::params::NamePath;

/// `AdamW` with its moments by parameter name.
pub struct AdamW {
    config: OptimConfig,
    updates: u64,
    moments: BTreeMap<String, Moments>,
}

/// Running moments of one parameter's gradient, flat, in float32.
#[derive(Clone)]
pub struct Moments {
    /// Mean of the gradient.
    pub m: Tensor<1>,
    /// Mean of its squares.
    pub v: Tensor<1>,
}

impl AdamW {
    /// Starts an optimizer without moments.
    pub fn new(config: OptimConfig) -> Self {
        Self {
            config,
            updates: 0,
            moments: BTreeMap::new(),
        }
    }

    /// Resumes an optimizer after `updates` updates.
    pub fn resume(config: OptimConfig, updates: u64, moments: BTreeMap<String, Moments>) -> Self {
        Self {
            config,
            updates,
            moments,
        }
    }

    /// Allocates moments of zero for every parameter of `student` that has none: a device that is too
    /// small fails at the start of a run.
    pub fn allocate<M: Module>(&mut self, student: &M) {
        student.visit(&mut Allocator {
            path: NamePath::default(),
            moments: &mut self.moments,
        });
    }

    /// The moments by parameter name.
    pub fn moments(&self) -> &BTreeMap<String, Moments> {
        &self.moments
    }

    /// Counts `n` updates as done, for the bias corrections.
    pub fn skip(&mut self, n: u64) {
        self.updates += n;
    }

    /// Applies one update with learning rate `lr` to every parameter that has a gradient.
    #[must_use]
    pub fn step<M: Module>(&mut self, student: M, gradients: Gradients, lr: f64) -> M {
        self.updates += 1;
        let [beta1, beta2] = self.config.betas;
        // The exponent is a count of updates: far below i32's limit.
        let correction1 = 1.0 - beta1.powi(self.updates as i32);
        let correction2 = (1.0 - beta2.powi(self.updates as i32)).sqrt();
        student.map(&mut Updater {
            path: NamePath::default(),
            optim: self,
            gradients,
            lr,
            correction1,
            correction2,
        })
    }

    /// Updates one flat parameter and its moments.
    fn update(
        &mut self,
        name: String,
        value: Tensor<1>,
        gradient: Tensor<1>,
        step: &Step,
    ) -> Tensor<1> {
        let [beta1, beta2] = self.config.betas;
        let squares = gradient.clone().square().mul_scalar(1.0 - beta2);
        let gradient = gradient.mul_scalar(1.0 - beta1);
        let (m, v) = match self.moments.remove(&name) {
            Some(Moments { m, v }) => (
                m.mul_scalar(beta1) + gradient,
                v.mul_scalar(beta2) + squares,
            ),
            None => (gradient, squares),
        };
        self.moments.insert(
            name,
            Moments {
                m: m.clone(),
                v: v.clone(),
            },
        );
        let (denominator, rate) = match self.config.eps_form {
            EpsForm::BeforeCorrection => (
                v.sqrt().add_scalar(self.config.eps),
                step.lr * step.correction2 / step.correction1,
            ),
            EpsForm::AfterCorrection => (
                v.sqrt()
                    .div_scalar(step.correction2)
                    .add_scalar(self.config.eps),
                step.lr / step.correction1,
            ),
        };
        value.mul_scalar(1.0 - step.lr * step.weight_decay) - (m / denominator).mul_scalar(rate)
    }
}

/// The scalars of one parameter's update.
struct Step {
    lr: f64,
    weight_decay: f64,
    correction1: f64,
    correction2: f64,
}

struct Allocator<'a> {
    path: NamePath,
    moments: &'a mut BTreeMap<String, Moments>,
}

impl ModuleVisitor for Allocator<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.moments.entry(self.path.name()).or_insert_with(|| {
            let value = param.val().inner();
            let zeros = || Tensor::zeros([value.shape().num_elements()], &value.device());
            Moments {
                m: zeros(),
                v: zeros(),
            }
        });
    }
}

struct Updater<'a> {
    path: NamePath,
    optim: &'a mut AdamW,
    gradients: Gradients,
    lr: f64,
    correction1: f64,
    correction2: f64,
}

impl ModuleMapper for Updater<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = self.path.name();
        let Some(gradient) = self.gradients.remove(&name) else {
            return param;
        };
        let (id, value, mapper) = param.consume();
        let shape = value.shape();
        let decays = self.optim.config.decayed.covers(&name, &shape);
        let step = Step {
            lr: self.lr,
            weight_decay: if decays {
                self.optim.config.weight_decay
            } else {
                0.0
            },
            correction1: self.correction1,
            correction2: self.correction2,
        };
        let value = self
            .optim
            .update(name, value.inner().flatten(0, D - 1), gradient, &step);
        let value = Tensor::from_inner(value.reshape(shape)).require_grad();
        Param::from_mapped_value(id, value, mapper)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::model::Linear;
    use crate::optim::{Decayed, LrSchedule};
    use crate::params;

    #[test]
    fn allocated_moments_give_the_same_updates() {
        let device = Device::flex().autodiff();
        let config = OptimConfig {
            lr: 0.1,
            betas: [0.9, 0.98],
            eps: 1e-6,
            eps_form: EpsForm::AfterCorrection,
            weight_decay: 0.01,
            decayed: Decayed::All,
            clip_norm: None,
            schedule: LrSchedule::Linear {
                warmup_steps: 0,
                final_lr: None,
            },
        };
        let updated = |is_allocated: bool| {
            let shapes = params::shapes(&Linear::new(2, 3, &device));
            let values = shapes.into_iter().map(|(name, shape)| {
                let n: usize = shape.iter().product();
                let values: Vec<f32> = (0..n).map(|i| i as f32 + 0.5).collect();
                (name, burn::tensor::TensorData::new(values, shape))
            });
            let mut student =
                params::load(Linear::new(2, 3, &device), values.collect()).expect("its own shapes");
            let mut optim = AdamW::new(config);
            if is_allocated {
                optim.allocate(&student);
                assert_eq!(optim.moments().len(), 2);
            }
            for _ in 0..3 {
                let x = Tensor::<3>::ones([1, 4, 2], &device);
                let mut gradients = Gradients::default();
                gradients.add(&student, student.forward(x).square().sum().backward());
                student = optim.step(student, gradients, 0.1);
            }
            params::collect(&student)
        };
        assert_eq!(updated(true), updated(false));
    }
}
