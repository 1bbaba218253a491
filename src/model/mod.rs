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

mod check;
pub(crate) mod encoders;
mod features;
mod heads;
mod input;
mod layers;
mod masks;
mod to_device;
mod vocabulary;

pub use encoders::audio::{AudioEncoder, FeatureExtractor};
pub use encoders::beit::Beit;
pub use encoders::config::{
    AudioConfig, BeitConfig, EncoderConfig, RelativePosition, TextConfig, VitConfig,
};
pub use encoders::text::{Embedding, TextEncoder};
pub use encoders::vit::Vit;
pub use encoders::{Encoder, mean};
pub use features::FeatureVectors;
pub use heads::classifier::Classifier;
pub use heads::decoder::{Decoder, DecoderConfig};
pub use heads::text::{MaskedLanguageHead, Pooler, SentenceHead};
pub use input::{EncoderInput, View};
pub use layers::attention::Attention;
pub use layers::block::{Block, BlockOutput, Sequence};
pub use layers::block_config::BlockConfig;
pub use layers::conv::{Conv1d, Conv2d};
pub use layers::conv_stack::Conv;
pub use layers::dropout::DropPath;
pub use layers::linear::{Head, Linear, Mlp};
pub use layers::norm::{LayerNorm, Norm};
pub use layers::patch_embed::PatchEmbed;
pub use layers::position::{RelativePositionBias, sin_cos_positions};
pub use masks::{MaskError, Masks};
pub use to_device::to_device;
pub use vocabulary::{VocabularyError, check_vocabulary, compare_vocabularies};

pub(crate) use check::Check;
pub(crate) use layers::block_config::hidden_dim;
pub(crate) use layers::norm::{instance_norm, layer_norm};
