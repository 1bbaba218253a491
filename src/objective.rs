//! Objectives of self-supervised pre-training, and the table `[model]` that selects one.

pub(crate) mod config;
pub(crate) mod data2vec;
mod loss;

pub use crate::model::{MaskError, Masks};
pub use config::{Data2Vec1Config, Data2Vec2Config, ModelConfig, TargetConfig, TargetOutput};
pub use data2vec::network::{Network, ParameterCounts};
pub use data2vec::{Data2Vec, Inputs, Output};
pub use loss::{FeatureSums, feature_std};
