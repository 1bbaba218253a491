//! Initial values, drawn on the host by one rule per parameter name.
//!
//! Each parameter has its own stream of the counter-based generator, keyed by seed and name: its
//! values are the same on every device and do not depend on other parameters.

mod filter_bank;
mod rule;
mod rules;

pub use rule::Rule;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Tensor, TensorData};

use crate::objective::config::ModelConfig;
use crate::objective::data2vec::network::Network;
use crate::params::NamePath;
use rule::draw;

/// Writes a student's initial values, with the reference's distributions except for `filter_bank`.
pub fn network(network: Network, config: &ModelConfig, seed: u64) -> Network {
    initialise(network, seed, |name| rules::of(name, config))
}

/// Writes values drawn by `rule(name)` into every float parameter.
pub fn initialise<M: Module>(module: M, seed: u64, rule: impl Fn(&str) -> Rule) -> M {
    module.map(&mut Initialiser {
        path: NamePath::default(),
        seed,
        rule,
    })
}

struct Initialiser<F> {
    path: NamePath,
    seed: u64,
    rule: F,
}

impl<F: Fn(&str) -> Rule> ModuleMapper for Initialiser<F> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = self.path.name();
        let shape = param.lazy_shape();
        let values = draw((self.rule)(&name), &shape.to_vec(), self.seed, &name);
        let tensor = Tensor::from_data(TensorData::new(values, shape), &param.lazy_device());
        let id = param.id;
        param.transform_for_load(tensor, id)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::objective::config::tests::tiny2;
    use crate::params;

    #[test]
    fn initial_values_depend_only_on_seed_and_name() {
        let student = |seed, device: &Device| {
            params::collect(&network(Network::student(&tiny2(), device), &tiny2(), seed))
        };
        let values = student(1, &Device::flex());
        assert_eq!(values, student(1, &Device::flex().autodiff()));
        #[cfg(feature = "libtorch")]
        assert_eq!(values, student(1, &crate::libtorch::cpu()));
        let others = student(2, &Device::flex());
        let name = "encoder.blocks.0.attn.qkv.weight";
        assert_ne!(values[name], others[name]);
        assert_ne!(values[name], values["encoder.blocks.1.attn.qkv.weight"]);
    }
}
