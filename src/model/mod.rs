//! Encoders, and the parts that they are made of.
//!
//! Both methods use the same [`Block`], [`Attention`] and [`Mlp`]; what differs between them are
//! fields of [`BlockConfig`]. Notation of the shapes: B samples, M masks per sample, R = B·M rows,
//! N patches, S tokens, D width, H heads.
//!
//! Weights have PyTorch's layout and, within an encoder, the reference's names, so that
//! checkpoints speak the field's language. Modules are built without values: `init` or
//! `params::load` writes them.

mod attention;
mod block;
mod classifier;
pub(crate) mod config;
mod decoder;
mod layers;
mod network;
mod norm;
mod patch;
mod position;
mod vit1;
mod vit2;

pub use attention::Attention;
pub use block::{Block, BlockConfig, BlockOutput};
pub use classifier::Classifier;
pub use config::{
    Data2Vec1Config, Data2Vec2Config, DecoderConfig, ModelConfig, Norm, RelativePosition,
    TargetConfig, Vit1Config, Vit2Config,
};
pub use decoder::Decoder;
pub use layers::{Conv2d, DropPath, Linear, Mlp};
pub(crate) use network::without_class_token;
pub use network::{Network, Network1, Network2, ParameterCounts};
pub use norm::LayerNorm;
pub(crate) use norm::{instance_norm, layer_norm};
pub use patch::PatchEmbed;
pub use position::{RelativePositionBias, sin_cos_positions};
pub use vit1::Vit1;
pub use vit2::Vit2;

use burn::module::{Param, ParamId};
use burn::tensor::{Device, Tensor};

/// A parameter without a value: reading it before one was written is a bug and panics.
pub(crate) fn parameter<const D: usize>(shape: [usize; D], device: &Device) -> Param<Tensor<D>> {
    Param::uninitialized(
        ParamId::new(),
        move |_, _| panic!("a parameter of shape {shape:?} was read before it had a value"),
        device.clone(),
        true,
        shape.into(),
    )
}
