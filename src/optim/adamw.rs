//! The update of `AdamW` (Loshchilov & Hutter 2019), parameter by parameter.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, Param};
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

    /// The moments by parameter name.
    pub fn moments(&self) -> &BTreeMap<String, Moments> {
        &self.moments
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
