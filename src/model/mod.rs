//! Encoders, their layers and their heads.
//!
//! All encoders use the same [`Block`], [`Attention`] and [`Mlp`]; the fields of [`BlockConfig`]
//! hold their differences. Audio and text have one encoder for both methods. Notation of the
//! shapes: B samples, M masks per sample, R = B·M rows, N positions (patches, audio features,
//! tokens), S length of a block's input (N, and for images the class token), D width, H heads.
//!
//! Weights have PyTorch's layout and, within an image encoder, the reference's names, so that
//! checkpoints can be exchanged. Modules are built without values: `init` or `params::load` writes
//! them.

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
pub use encoders::context::Context;
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

pub(crate) use check::{Check, MOST_WIDTH};
pub(crate) use layers::block_config::hidden_dim;
pub(crate) use layers::norm::{instance_norm, layer_norm};
