//! Parameters by dotted name (`encoder.blocks.0.attn.qkv.weight`): list, count, collect, load.
//!
//! Optimizer state, the teacher's average and checkpoints all use these names. Modules are built
//! without values: [`shapes`] and [`count`] allocate nothing, [`load`] needs no initialisation
//! before it, and [`collect`] needs values.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{DType, Tensor, TensorData};
use thiserror::Error;

/// Tensors that do not match the parameters of a module.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum LoadError {
    /// Parameters of the module without a tensor.
    #[error("missing {}: {}", plural(.0, "parameter"), listed(.0))]
    Missing(Vec<String>),
    /// Tensors without a parameter in the module.
    #[error("unexpected {}: {}", plural(.0, "tensor"), listed(.0))]
    Unexpected(Vec<String>),
    /// A tensor of another shape than its parameter.
    #[error("shape {found:?} instead of {expected:?}: {name}")]
    Shape {
        /// Name of the parameter.
        name: String,
        /// The module's shape.
        expected: Vec<usize>,
        /// The tensor's shape.
        found: Vec<usize>,
    },
    /// A tensor that is not float.
    #[error("{found} values instead of float: {name}")]
    Type {
        /// Name of the parameter.
        name: String,
        /// The tensor's element type.
        found: &'static str,
    },
}

/// Lists the name and shape of every float parameter, in the order of the module's fields.
pub fn shapes<M: Module>(module: &M) -> Vec<(String, Vec<usize>)> {
    let mut visitor = Shapes::default();
    module.visit(&mut visitor);
    visitor.shapes
}

/// Counts the values of all float parameters.
pub fn count<M: Module>(module: &M) -> usize {
    shapes(module)
        .iter()
        .map(|(_, shape)| shape.iter().product::<usize>())
        .sum()
}

/// Collects the values of every float parameter, by name.
pub fn collect<M: Module>(module: &M) -> BTreeMap<String, TensorData> {
    let mut visitor = Values::default();
    module.visit(&mut visitor);
    visitor.values
}

/// Writes `tensors` into the module's float parameters, on the devices of the parameters.
///
/// Names and shapes must be exactly the module's. float16, bfloat16 and float64 become float32.
pub fn load<M: Module>(module: M, tensors: BTreeMap<String, TensorData>) -> Result<M, LoadError> {
    check(&module, &tensors)?;
    Ok(module.map(&mut Writer {
        path: NamePath::default(),
        tensors,
    }))
}

/// Copies the module's float parameters to their own memory. Parameters that are updated in place
/// must not share memory.
#[must_use]
pub fn unshared<M: Module>(module: M) -> M {
    module.map(&mut Unshare)
}

/// Checks that `tensors` have the names, types and shapes of the module's parameters.
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

/// The dotted name of the parameter that a visitor or mapper is at.
///
/// Call it from `enter_module` and `exit_module`. Enum variants, the only names with a capital
/// letter, are not in a parameter's name.
#[derive(Debug, Default, Clone)]
pub struct NamePath {
    parts: Vec<Option<String>>,
}

impl NamePath {
    /// Enters a field, element or variant.
    pub fn enter(&mut self, name: &str) {
        let is_variant = name.starts_with(|first: char| first.is_ascii_uppercase());
        self.parts.push((!is_variant).then(|| name.to_owned()));
    }

    /// Leaves the last field, element or variant that was entered.
    pub fn exit(&mut self) {
        self.parts.pop();
    }

    /// Returns the dotted name.
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

struct Unshare;

impl ModuleMapper for Unshare {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let require_grad = param.is_require_grad();
        // An operation allocates its result; burn's clones share memory.
        param.map(|tensor| {
            tensor
                .detach()
                .mul_scalar(1.0)
                .set_require_grad(require_grad)
        })
    }
}

/// Formats a count: "parameter" or "12 parameters".
fn plural(names: &[String], noun: &str) -> String {
    match names.len() {
        1 => noun.to_owned(),
        n => format!("{n} {noun}s"),
    }
}

/// Joins the first five names of a list that may be hundreds long.
pub(crate) fn listed(names: &[String]) -> String {
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

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::model::{LayerNorm, Linear};

    /// A module with variants, which do not appear in names.
    #[derive(Module, Debug)]
    enum Choice {
        Tiny(Tiny),
    }

    #[derive(Module, Debug)]
    struct Tiny {
        maps: Vec<Linear>,
        norm: Option<LayerNorm>,
    }

    fn choice() -> Choice {
        let device = Device::flex().autodiff();
        Choice::Tiny(Tiny {
            maps: vec![Linear::without_bias(2, 3, &device)],
            norm: Some(LayerNorm::new(3, 1e-5, &device)),
        })
    }

    fn tensors() -> BTreeMap<String, TensorData> {
        BTreeMap::from([
            (
                "maps.0.weight".to_owned(),
                TensorData::from([[1.0_f32, 2.0], [3.0, 4.0], [5.0, 6.0]]),
            ),
            (
                "norm.bias".to_owned(),
                TensorData::from([0.0_f32, 1.0, 2.0]),
            ),
            (
                "norm.weight".to_owned(),
                TensorData::from([7.0_f32, 8.0, 9.0]),
            ),
        ])
    }

    #[test]
    fn names_and_shapes_need_no_values() {
        let names = |name: &str, shape: &[usize]| (name.to_owned(), shape.to_vec());
        let expected = [
            names("maps.0.weight", &[3, 2]),
            names("norm.weight", &[3]),
            names("norm.bias", &[3]),
        ];
        assert_eq!(shapes(&choice()), expected);
        assert_eq!(count(&choice()), 12);
    }

    #[test]
    fn loaded_parameters_are_collected_and_require_gradients() {
        let loaded = load(choice(), tensors()).unwrap();
        assert_eq!(collect(&loaded), tensors());
        let Choice::Tiny(tiny) = loaded;
        assert!(tiny.maps[0].weight.is_require_grad());
    }

    #[test]
    fn load_rejects_other_names_shapes_and_types() {
        let failure = |change: fn(&mut BTreeMap<String, TensorData>)| {
            let mut tensors = tensors();
            change(&mut tensors);
            load(choice(), tensors).unwrap_err()
        };
        let missing = failure(|tensors| drop(tensors.remove("norm.bias")));
        assert_eq!(missing, LoadError::Missing(vec!["norm.bias".to_owned()]));
        assert_eq!(missing.to_string(), "missing parameter: norm.bias");
        let unexpected =
            failure(|tensors| drop(tensors.insert("x".to_owned(), TensorData::from([0.0_f32]))));
        assert_eq!(unexpected, LoadError::Unexpected(vec!["x".to_owned()]));
        let shape = failure(|tensors| {
            tensors.insert(
                "norm.bias".to_owned(),
                TensorData::from([[0.0_f32, 1.0, 2.0]]),
            );
        });
        let name = "norm.bias".to_owned();
        assert_eq!(
            shape,
            LoadError::Shape {
                name: name.clone(),
                expected: vec![3],
                found: vec![1, 3]
            }
        );
        let kind = failure(|tensors| {
            tensors.insert("norm.bias".to_owned(), TensorData::from([0_i64, 1, 2]));
        });
        assert_eq!(kind, LoadError::Type { name, found: "i64" });
    }
}
