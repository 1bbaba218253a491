//! Initial values: one rule per parameter name, drawn on the host.
//!
//! Each parameter has its own stream of the counter-based generator, keyed by seed and name: the
//! values are the same on every device and whatever else a model has.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Tensor, TensorData};
use understudy_pipelines::rng::{Purpose, Rng};

use crate::model::{Data2Vec1Config, Data2Vec2Config, ModelConfig, Network};
use crate::params::NamePath;

/// How a parameter starts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// The same value everywhere.
    Constant(f64),
    /// N(0, `std`²).
    Normal {
        /// Standard deviation.
        std: f64,
    },
    /// N(0, `std`²) without what lies beyond one standard deviation, times `scale`.
    TruncNormal {
        /// Standard deviation before the truncation.
        std: f64,
        /// Factor.
        scale: f64,
    },
    /// Uniform in ± `bound`.
    Uniform {
        /// Greatest magnitude.
        bound: f64,
    },
}

/// Writes a student's initial values, as the reference draws them.
pub fn network(network: Network, config: &ModelConfig, seed: u64) -> Network {
    match config {
        ModelConfig::Data2vec1(config) => initialise(network, seed, |name| data2vec1(name, config)),
        ModelConfig::Data2vec2(config) => initialise(network, seed, |name| data2vec2(name, config)),
    }
}

/// Writes `rule(name)`'s values into every float parameter.
pub fn initialise<M: Module>(module: M, seed: u64, rule: impl Fn(&str) -> Rule) -> M {
    module.map(&mut Initialiser {
        path: NamePath::default(),
        seed,
        rule,
    })
}

/// data2vec 1.0 on images (BEiT's initialisation).
fn data2vec1(name: &str, config: &Data2Vec1Config) -> Rule {
    const STD: f64 = 0.02;
    let last = name.rsplit('.').next().unwrap_or(name);
    if last == "gamma_1" || last == "gamma_2" {
        return Rule::Constant(config.image.layer_scale);
    }
    if is_norm_gain(name) {
        return Rule::Constant(1.0);
    }
    if last.ends_with("bias") || last == "relative_position_bias_table" {
        return Rule::Constant(0.0);
    }
    // The outputs of deeper blocks' branches start smaller: 1 / √(2·block), blocks from 1.
    let block = name
        .strip_prefix("encoder.blocks.")
        .filter(|_| name.ends_with("attn.proj.weight") || name.ends_with("mlp.fc2.weight"))
        .and_then(|rest| rest.split('.').next()?.parse::<f64>().ok());
    let scale = block.map_or(1.0, |block_idx| (2.0 * (block_idx + 1.0)).sqrt().recip());
    Rule::TruncNormal { std: STD, scale }
}

/// data2vec 2.0 on images.
fn data2vec2(name: &str, config: &Data2Vec2Config) -> Rule {
    // PyTorch's default for weight and bias of linear maps and convolutions.
    let pytorch_default = |n_inputs: usize| Rule::Uniform {
        bound: (n_inputs as f64).sqrt().recip(),
    };
    let patch_values = 3 * config.image.patch_size.pow(2);
    let embed_dim = config.image.embed_dim;
    let decoder = &config.decoder;
    if let Some(name) = name.strip_prefix("decoder.") {
        let Some(layer) = name.strip_prefix("blocks.") else {
            return pytorch_default(decoder.dim);
        };
        let n_in = if layer.starts_with("0.") {
            embed_dim
        } else {
            decoder.dim
        };
        return pytorch_default(n_in / decoder.groups * decoder.kernel.pow(2));
    }
    match name {
        "encoder.cls_token" => Rule::Normal { std: 1.0 },
        // Xavier, over the flattened weight.
        "encoder.patch_embed.proj.weight" => Rule::Uniform {
            bound: (6.0 / (patch_values + embed_dim) as f64).sqrt(),
        },
        "encoder.patch_embed.proj.bias" => pytorch_default(patch_values),
        _ if is_norm_gain(name) => Rule::Constant(1.0),
        _ if name.ends_with("bias") => Rule::Constant(0.0),
        _ => Rule::Normal { std: 0.02 },
    }
}

/// `norm.weight`, `norm1.weight` and `norm2.weight` of any part.
fn is_norm_gain(name: &str) -> bool {
    let mut parts = name.rsplit('.');
    parts.next() == Some("weight") && parts.next().is_some_and(|part| part.starts_with("norm"))
}

/// `n` values of one parameter.
fn draw(rule: Rule, n: usize, seed: u64, name: &str) -> Vec<f32> {
    let mut rng = Rng::for_name(seed, Purpose::Init, name);
    let value = |_| match rule {
        Rule::Constant(value) => value as f32,
        Rule::Normal { std } => (rng.normal() * std) as f32,
        Rule::TruncNormal { std, scale } => (within_one(&mut rng) * std * scale) as f32,
        Rule::Uniform { bound } => rng.range(-bound, bound) as f32,
    };
    (0..n).map(value).collect()
}

/// A standard normal number in [−1, 1].
fn within_one(rng: &mut Rng) -> f64 {
    loop {
        let value = rng.normal();
        if value.abs() <= 1.0 {
            return value;
        }
    }
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
        let values = draw((self.rule)(&name), shape.num_elements(), self.seed, &name);
        let tensor = Tensor::from_data(TensorData::new(values, shape), &param.lazy_device());
        let id = param.id;
        param.transform_for_load(tensor, id)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::model::config::tests::{tiny1, tiny2};
    use crate::params;

    #[test]
    fn rules_of_1_0_are_beits() {
        let ModelConfig::Data2vec1(config) = tiny1() else {
            unreachable!()
        };
        let rule = |name| data2vec1(name, &config);
        let truncated = |scale| Rule::TruncNormal { std: 0.02, scale };
        for (name, expected) in [
            ("encoder.cls_token", truncated(1.0)),
            ("encoder.mask_token", truncated(1.0)),
            ("encoder.patch_embed.proj.weight", truncated(1.0)),
            ("encoder.patch_embed.proj.bias", Rule::Constant(0.0)),
            (
                "encoder.rel_pos_bias.relative_position_bias_table",
                Rule::Constant(0.0),
            ),
            ("encoder.blocks.0.gamma_1", Rule::Constant(1e-2)),
            ("encoder.blocks.0.norm2.weight", Rule::Constant(1.0)),
            ("encoder.blocks.0.norm2.bias", Rule::Constant(0.0)),
            ("encoder.blocks.1.attn.qkv.weight", truncated(1.0)),
            ("encoder.blocks.1.attn.q_bias", Rule::Constant(0.0)),
            ("encoder.blocks.1.attn.proj.weight", truncated(0.5)),
            ("encoder.blocks.7.mlp.fc2.weight", truncated(0.25)),
            ("encoder.blocks.1.mlp.fc1.weight", truncated(1.0)),
            ("encoder.norm.weight", Rule::Constant(1.0)),
            ("lm_head.weight", truncated(1.0)),
            ("lm_head.bias", Rule::Constant(0.0)),
        ] {
            assert_eq!(rule(name), expected, "{name}");
        }
    }

    #[test]
    fn rules_of_2_0_are_fairseqs() {
        let ModelConfig::Data2vec2(config) = tiny2() else {
            unreachable!()
        };
        let rule = |name| data2vec2(name, &config);
        let uniform = |square: f64| Rule::Uniform {
            bound: square.sqrt(),
        };
        for (name, expected) in [
            ("encoder.cls_token", Rule::Normal { std: 1.0 }),
            (
                "encoder.patch_embed.proj.weight",
                uniform(6.0 / (48.0 + 16.0)),
            ),
            ("encoder.context.norm.weight", Rule::Constant(1.0)),
            (
                "encoder.context.blocks.0.attn.qkv.weight",
                Rule::Normal { std: 0.02 },
            ),
            ("encoder.blocks.0.attn.qkv.bias", Rule::Constant(0.0)),
            ("encoder.blocks.0.norm1.bias", Rule::Constant(0.0)),
        ] {
            assert_eq!(rule(name), expected, "{name}");
        }
        // PyTorch's default by inputs: 3·4·4 values; 16 or 8 channels in 4 groups, 3 × 3; 8 channels.
        for (name, n_inputs) in [
            ("encoder.patch_embed.proj.bias", 48.0),
            ("decoder.blocks.0.weight", 36.0),
            ("decoder.blocks.0.bias", 36.0),
            ("decoder.blocks.1.weight", 18.0),
            ("decoder.proj.weight", 8.0),
            ("decoder.proj.bias", 8.0),
        ] {
            let Rule::Uniform { bound } = rule(name) else {
                panic!("{name}")
            };
            assert!((bound * bound * n_inputs - 1.0).abs() < 1e-12, "{name}");
        }
    }

    #[test]
    fn draws_follow_their_rule() {
        let moments = |rule| {
            let values = draw(rule, 40_000, 1, "a.name");
            let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / 40_000.0;
            let square = values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / 40_000.0;
            let greatest = values.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
            (mean, square.sqrt(), f64::from(greatest))
        };
        let near = |found: f64, expected: f64| (found / expected - 1.0).abs() < 0.03;
        let (mean, std, greatest) = moments(Rule::Normal { std: 0.5 });
        assert!(mean.abs() < 0.02 && near(std, 0.5) && greatest > 1.5);
        // A standard normal within ±1 has variance 0.2911.
        let (mean, std, greatest) = moments(Rule::TruncNormal {
            std: 2.0,
            scale: 0.5,
        });
        assert!(mean.abs() < 0.02 && near(std, 0.2911_f64.sqrt()) && greatest <= 1.0);
        let (mean, std, greatest) = moments(Rule::Uniform { bound: 3.0 });
        assert!(mean.abs() < 0.06 && near(std, 3_f64.sqrt()) && greatest <= 3.0);
    }

    #[test]
    fn values_depend_on_seed_and_name_alone() {
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
