//! Encoders, and the parts that they are made of.
//!
//! All use the same [`Block`], [`Attention`] and [`Mlp`]; what differs between them are fields of
//! [`BlockConfig`]. Audio and text have one encoder for both methods. Notation of the shapes: B
//! samples, M masks per sample, R = B·M rows, N positions (patches, frames, tokens), S tokens, D
//! width, H heads.
//!
//! Weights have PyTorch's layout and, within an encoder of images, the reference's names, so that
//! checkpoints speak the field's language. Modules are built without values: `init` or
//! `params::load` writes them.

mod alibi;
mod attention;
mod audio;
mod block;
mod classifier;
pub(crate) mod config;
mod context;
mod conv;
mod decoder;
mod encoder;
mod fused;
mod layers;
mod masks;
mod media;
mod network;
mod norm;
mod patch;
mod position;
mod text;
mod text_heads;
mod vit1;
mod vit2;

pub use attention::Attention;
pub use audio::{AudioEncoder, WaveFeatures};
pub use block::{Block, BlockConfig, BlockOutput, Sequence};
pub use classifier::Classifier;
pub use config::{
    AudioConfig, Data2Vec1Config, Data2Vec2Config, DecoderConfig, EncoderConfig, ModelConfig, Norm,
    RelativePosition, TargetConfig, TextConfig, Vit1Config, Vit2Config,
};
pub use context::Context;
pub use conv::{Conv, Conv1d, Conv2d};
pub use decoder::Decoder;
pub use encoder::{Encoder, mean};
pub use layers::{DropPath, Head, Linear, Mlp};
pub use masks::{MaskError, Masks};
pub use media::{Media, View};
pub use network::{Network, ParameterCounts};
pub use norm::LayerNorm;
pub(crate) use norm::{instance_norm, layer_norm};
pub use patch::PatchEmbed;
pub use position::{RelativePositionBias, sin_cos_positions};
pub use text::{Embedding, TextEncoder};
pub use text_heads::{MaskedLanguageHead, Pooler, SentenceHead};
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
