//! Parameters under dotted names (`encoder.blocks.0.attn.qkv.weight`): list, count, collect, load.
//!
//! Optimizer state, the teacher's average and checkpoints all speak these names. Modules here are
//! built lazily: [`shapes`] and [`count`] allocate nothing, [`load`] writes without a first
//! initialisation, and [`collect`] needs values.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{DType, Tensor, TensorData};
use thiserror::Error;

/// Why tensors could not be loaded into a module.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum LoadError {
    /// Parameters of the module that the tensors lack.
    #[error("missing {}: {}", plural(.0, "parameter"), listed(.0))]
    Missing(Vec<String>),
    /// Tensors that no parameter of the module asks for.
    #[error("unexpected {}: {}", plural(.0, "tensor"), listed(.0))]
    Unexpected(Vec<String>),
    /// A tensor of another shape than its parameter.
    #[error("{name} has shape {found:?}, the model needs {expected:?}")]
    Shape {
        /// The parameter.
        name: String,
        /// The module's shape.
        expected: Vec<usize>,
        /// The tensor's shape.
        found: Vec<usize>,
    },
    /// A tensor that is not float.
    #[error("{name} is {found}, the model needs float values")]
    Type {
        /// The parameter.
        name: String,
        /// The tensor's element type.
        found: &'static str,
    },
}

/// Every float parameter's name and shape, in the order of the module's fields.
pub fn shapes<M: Module>(module: &M) -> Vec<(String, Vec<usize>)> {
    let mut visitor = Shapes::default();
    module.visit(&mut visitor);
    visitor.shapes
}

/// Number of float parameters.
pub fn count<M: Module>(module: &M) -> usize {
    shapes(module)
        .iter()
        .map(|(_, shape)| shape.iter().product::<usize>())
        .sum()
}

/// Every float parameter's values, by name.
pub fn collect<M: Module>(module: &M) -> BTreeMap<String, TensorData> {
    let mut visitor = Values::default();
    module.visit(&mut visitor);
    visitor.values
}

/// Writes `tensors` into the module's float parameters, on whatever devices those are.
///
/// The names must be exactly the module's and the shapes equal. float16, bfloat16 and float64 become float32.
pub fn load<M: Module>(module: M, tensors: BTreeMap<String, TensorData>) -> Result<M, LoadError> {
    check(&module, &tensors)?;
    Ok(module.map(&mut Writer {
        path: NamePath::default(),
        tensors,
    }))
}

/// Whether `tensors` are the module's, name by name.
fn check<M: Module>(module: &M, tensors: &BTreeMap<String, TensorData>) -> Result<(), LoadError> {
    let expected: BTreeMap<String, Vec<usize>> = shapes(module).into_iter().collect();
    let missing: Vec<String> = expected
        .keys()
        .filter(|name| !tensors.contains_key(*name))
        .cloned()
        .collect();
    if !missing.is_empty() {
        return Err(LoadError::Missing(missing));
    }
    let unexpected: Vec<String> = tensors
        .keys()
        .filter(|name| !expected.contains_key(*name))
        .cloned()
        .collect();
    if !unexpected.is_empty() {
        return Err(LoadError::Unexpected(unexpected));
    }
    for (name, shape) in expected {
        let tensor = &tensors[&name];
        if !tensor.dtype().is_float() {
            return Err(LoadError::Type {
                name,
                found: tensor.dtype().name(),
            });
        }
        if tensor.shape().as_slice() != shape {
            let found = tensor.shape().to_vec();
            return Err(LoadError::Shape {
                name,
                expected: shape,
                found,
            });
        }
    }
    Ok(())
}

/// The dotted name of the parameter that a visitor or mapper stands at.
///
/// Feed it `enter_module` and `exit_module`. Names of enum variants, the only ones with a capital,
/// are no part of a parameter's name.
#[derive(Debug, Default, Clone)]
pub struct NamePath {
    parts: Vec<Option<String>>,
}

impl NamePath {
    /// Goes into a field, element or variant.
    pub fn enter(&mut self, name: &str) {
        let is_variant = name.starts_with(|first: char| first.is_ascii_uppercase());
        self.parts.push((!is_variant).then(|| name.to_owned()));
    }

    /// Leaves what was entered last.
    pub fn exit(&mut self) {
        self.parts.pop();
    }

    /// The dotted name.
    pub fn name(&self) -> String {
        let parts: Vec<&str> = self.parts.iter().flatten().map(String::as_str).collect();
        parts.join(".")
    }
}

#[derive(Default)]
struct Shapes {
    path: NamePath,
    shapes: Vec<(String, Vec<usize>)>,
}

impl ModuleVisitor for Shapes {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.shapes
            .push((self.path.name(), param.lazy_shape().to_vec()));
    }
}

#[derive(Default)]
struct Values {
    path: NamePath,
    values: BTreeMap<String, TensorData>,
}

impl ModuleVisitor for Values {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.values
            .insert(self.path.name(), param.val().inner().into_data());
    }
}

struct Writer {
    path: NamePath,
    tensors: BTreeMap<String, TensorData>,
}

impl ModuleMapper for Writer {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        // `check` has seen that every parameter has a tensor.
        let Some(data) = self.tensors.remove(&self.path.name()) else {
            return param;
        };
        let tensor = Tensor::from_data(data.convert_dtype(DType::F32), &param.lazy_device());
        let id = param.id;
        param.transform_for_load(tensor, id)
    }
}

/// "parameter" or "12 parameters".
fn plural(names: &[String], noun: &str) -> String {
    match names.len() {
        1 => noun.to_owned(),
        n => format!("{n} {noun}s"),
    }
}

/// The first few names of a list that may be hundreds long.
fn listed(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let mut text = names
        .iter()
        .take(SHOWN)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > SHOWN {
        text.push_str(", …");
    }
    text
}
