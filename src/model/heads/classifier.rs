//! The image classifier of data2vec 1.0.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::model::encoders::beit::Beit;
use crate::model::encoders::config::BeitConfig;
use crate::model::layers::linear::Linear;
use crate::model::layers::norm::LayerNorm;

/// An encoder, the mean of its patch tokens, a norm and a linear map.
#[derive(Module, Debug)]
pub struct Classifier {
    /// The encoder, without mask token and final norm.
    pub encoder: Beit,
    fc_norm: LayerNorm,
    head: Linear,
}

impl Classifier {
    /// A classifier, without values.
    pub fn new(config: &BeitConfig, n_classes: usize, device: &Device) -> Self {
        Self {
            encoder: Beit::for_classification(config, device),
            fc_norm: LayerNorm::new(config.embed_dim, config.norm_eps, device),
            head: Linear::new(config.embed_dim, n_classes, device),
        }
    }

    /// Returns the logits for the encoder's output.
    ///
    /// # Shapes
    ///
    /// - tokens: `[B, 1 + N, D]`; output: `[B, classes]`
    pub fn classify(&self, tokens: Tensor<3>) -> Tensor<2> {
        let [b, n_tokens, dim] = tokens.dims();
        let patches = tokens.narrow(1, 1, n_tokens - 1);
        let pooled = patches.mean_dim(1).reshape([b, dim]);
        self.head.forward_rows(self.fc_norm.forward(pooled))
    }
}
