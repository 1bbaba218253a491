//! The teacher's parameters: an exponential moving average of the student's, in float32.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::Tensor;

use crate::params::NamePath;

/// How an update changes one of the teacher's parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// τ·teacher + (1 − τ)·student.
    Average,
    /// The student's value, for a parameter that both share.
    Copy,
}

/// Moves the teacher towards the student by one update with decay τ (`decay`).
///
/// `teacher` is on the plain device, `student` on either. At τ ≥ 1 averaged parameters do not
/// change, as in the reference.
#[must_use]
pub fn update<T: Module, S: Module>(
    teacher: T,
    student: &S,
    decay: f64,
    scope: impl Fn(&str) -> Scope,
) -> T {
    let mut values = Values {
        path: NamePath::default(),
        by_name: BTreeMap::new(),
    };
    student.visit(&mut values);
    teacher.map(&mut Mover {
        path: NamePath::default(),
        student: values.by_name,
        decay,
        scope,
    })
}

/// The student's values by name, flattened, on the plain device.
struct Values {
    path: NamePath,
    by_name: BTreeMap<String, Tensor<1>>,
}

impl ModuleVisitor for Values {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.by_name
            .insert(self.path.name(), param.val().inner().flatten(0, D - 1));
    }
}

struct Mover<F> {
    path: NamePath,
    student: BTreeMap<String, Tensor<1>>,
    decay: f64,
    scope: F,
}

impl<F: Fn(&str) -> Scope> ModuleMapper for Mover<F> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = self.path.name();
        let scope = (self.scope)(&name);
        let Some(student) = self.student.remove(&name) else {
            return param;
        };
        if scope == Scope::Average && self.decay >= 1.0 {
            return param;
        }
        let (id, value, mapper) = param.consume();
        let student = student.reshape(value.shape());
        let value = match scope {
            // A copy: the student's tensor is updated in place later.
            Scope::Copy => student.mul_scalar(1.0),
            Scope::Average => value.mul_scalar(self.decay) + student.mul_scalar(1.0 - self.decay),
        };
        Param::from_mapped_value(id, value, mapper)
    }
}
