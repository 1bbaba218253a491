//! The heads of Hugging Face's text models.

use burn::module::{Module, Param};
use burn::tensor::module::linear;
use burn::tensor::{Device, Tensor, activation};

use crate::model::layers::linear::Linear;
use crate::model::layers::norm::LayerNorm;
use crate::model::layers::parameter::parameter;

/// A linear map of the first token, with tanh.
#[derive(Module, Debug)]
pub struct Pooler {
    dense: Linear,
}

impl Pooler {
    /// A head of an encoder of width `dim`, without values.
    pub fn new(dim: usize, device: &Device) -> Self {
        Self {
            dense: Linear::new(dim, dim, device),
        }
    }

    /// # Shapes
    ///
    /// - tokens: `[B, L, D]`; output: `[B, D]`
    pub fn forward(&self, tokens: Tensor<3>) -> Tensor<2> {
        let [b, _, dim] = tokens.dims();
        let first = tokens.narrow(1, 0, 1).reshape([b, dim]);
        self.dense.forward_rows(first).tanh()
    }
}

/// A classifier of a sentence, or of a pair of sentences, by the first token.
#[derive(Module, Debug)]
pub struct SentenceHead {
    pooler: Pooler,
    out_proj: Linear,
}

impl SentenceHead {
    /// A head of an encoder of width `dim`, without values.
    pub fn new(dim: usize, n_classes: usize, device: &Device) -> Self {
        Self {
            pooler: Pooler::new(dim, device),
            out_proj: Linear::new(dim, n_classes, device),
        }
    }

    /// # Shapes
    ///
    /// - tokens: `[B, L, D]`; output: `[B, classes]`
    pub fn forward(&self, tokens: Tensor<3>) -> Tensor<2> {
        self.out_proj.forward_rows(self.pooler.forward(tokens))
    }
}

/// Token logits of every position, by the product with the encoder's token embedding.
#[derive(Module, Debug)]
pub struct MaskedLanguageHead {
    dense: Linear,
    norm: LayerNorm,
    /// `[vocab_size]`.
    bias: Param<Tensor<1>>,
}

impl MaskedLanguageHead {
    /// A head of an encoder of width `dim`, without values.
    pub fn new(dim: usize, vocab_size: usize, norm_eps: f64, device: &Device) -> Self {
        Self {
            dense: Linear::new(dim, dim, device),
            norm: LayerNorm::new(dim, norm_eps, device),
            bias: parameter([vocab_size], device),
        }
    }

    /// # Shapes
    ///
    /// - tokens: `[B, L, D]`; embedded: the encoder's token embedding, `[vocab_size, D]`; output:
    ///   `[B, L, vocab_size]`
    pub fn forward(&self, tokens: Tensor<3>, embedded: Tensor<2>) -> Tensor<3> {
        let [b, l, dim] = tokens.dims();
        let [vocab_size, _] = embedded.dims();
        let rows = self.dense.forward_rows(tokens.reshape([b * l, dim]));
        let rows = self.norm.forward(activation::gelu(rows));
        linear(rows, embedded.transpose(), Some(self.bias.val())).reshape([b, l, vocab_size])
    }
}
