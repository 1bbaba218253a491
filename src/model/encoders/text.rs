//! The text encoder of both methods.

use burn::module::{Module, Param};
use burn::tensor::module::embedding;
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::config::TextConfig;
use crate::model::input::{View, padding_bias};
use crate::model::layers::alibi::alibi;
use crate::model::layers::block::{self, Block, BlockOutput, Sequence};
use crate::model::layers::block_config::BlockConfig;
use crate::model::layers::dropout::dropout;
use crate::model::layers::norm::LayerNorm;
use crate::model::layers::parameter::parameter;

/// Embedded tokens with learned positions or `ALiBi`, and blocks with norms after the residual sums.
#[derive(Module, Debug)]
pub struct TextEncoder {
    /// None for most teachers of 2.0, which take their student's local features.
    embed: Option<Embedding>,
    /// `ALiBi`'s learned factors of the slopes, `[H]`; none with learned positions.
    alibi_scale: Option<Param<Tensor<1>>>,
    /// The blocks that give targets.
    blocks: Vec<Block>,
}

/// The embedding of tokens and positions, with a norm.
#[derive(Module, Debug)]
pub struct Embedding {
    /// `[vocab_size, D]`.
    pub tokens: Param<Tensor<2>>,
    /// `[pad_token + 1 + max_tokens, D]`: position 0 has row `pad_token + 1`, padding has row
    /// `pad_token`. None with `ALiBi`.
    pub positions: Option<Param<Tensor<2>>>,
    norm: LayerNorm,
    drop_prob: f64,
    pad_token: usize,
}

impl Embedding {
    fn new(config: &TextConfig, device: &Device) -> Self {
        let dim = config.embed_dim;
        Self {
            tokens: parameter([config.vocab_size, dim], device),
            positions: (!config.alibi).then(|| parameter([config.n_position_rows(), dim], device)),
            norm: LayerNorm::new(dim, config.norm_eps, device),
            drop_prob: config.drop_prob,
            pad_token: config.pad_token,
        }
    }

    /// # Shapes
    ///
    /// - tokens: `[B, L]`, the first `lengths` of each row not padding (all if none are given);
    ///   output: `[B, L, D]`
    pub fn forward(&self, tokens: Tensor<2, Int>, lengths: Option<&[usize]>) -> Tensor<3> {
        let positions = self
            .positions
            .as_ref()
            .map(|positions| embedding(positions.val(), self.position_rows(&tokens, lengths)));
        let x = embedding(self.tokens.val(), tokens);
        let x = match positions {
            Some(positions) => x + positions,
            None => x,
        };
        let x = match lengths {
            Some(lengths) if x.is_autodiff() => detach_padding(x, lengths),
            _ => x,
        };
        dropout(self.norm.forward(x), self.drop_prob)
    }

    /// Returns each token's row of the position table, `[B or 1, L]`.
    fn position_rows(&self, tokens: &Tensor<2, Int>, lengths: Option<&[usize]>) -> Tensor<2, Int> {
        let [b, l] = tokens.dims();
        let rows = |n: usize| {
            let pad = self.pad_token;
            (0..l).map(move |i| if i < n { pad + 1 + i } else { pad } as i64)
        };
        let (n_rows, rows): (usize, Vec<i64>) = match lengths {
            Some(lengths) => (b, lengths.iter().flat_map(|&n| rows(n)).collect()),
            None => (1, rows(l).collect()),
        };
        Tensor::from_data(TensorData::new(rows, [n_rows, l]), &tokens.device())
    }
}

/// Stops gradients at padding, `[B, L, D]`: its rows of both tables are not trained, as with the
/// `padding_idx` of the reference's embeddings.
fn detach_padding(x: Tensor<3>, lengths: &[usize]) -> Tensor<3> {
    let [b, l, _] = x.dims();
    if lengths.iter().all(|&n| n == l) {
        return x;
    }
    let own = lengths
        .iter()
        .flat_map(|&n| (0..l).map(move |i| if i < n { 1.0_f32 } else { 0.0 }));
    let own = TensorData::new(own.collect::<Vec<_>>(), [b, l, 1]);
    let own = Tensor::<3>::from_data(own, &x.device());
    let padding = own.clone().neg().add_scalar(1.0);
    x.clone() * own + x.detach() * padding
}

impl TextEncoder {
    /// A student's encoder, without values.
    pub fn new(config: &TextConfig, device: &Device) -> Self {
        let block = BlockConfig {
            drop_prob: config.drop_prob,
            attention_drop_prob: config.attention_drop_prob,
            ..BlockConfig::post_norm(
                config.embed_dim,
                config.n_heads,
                config.mlp_ratio,
                config.norm_eps,
            )
        };
        Self {
            embed: Some(Embedding::new(config, device)),
            alibi_scale: config.alibi.then(|| parameter([config.n_heads], device)),
            blocks: block.blocks(config.depth, device),
        }
    }

    /// Removes the embedding: a teacher's encoder.
    #[must_use]
    pub fn without_embedding(self) -> Self {
        Self {
            embed: None,
            ..self
        }
    }

    /// The embedding; none for a teacher that takes its student's local features.
    pub fn embed(&self) -> Option<&Embedding> {
        self.embed.as_ref()
    }

    /// Returns the input of the blocks. Masked tokens of 1.0 are replaced before they are embedded.
    ///
    /// # Shapes
    ///
    /// - local: `[B, L, D]`; padding: `[B, L]`, 1 = padding; output: `[B, L, D]`, for kept positions
    ///   only `[R, n_kept, D]`
    pub fn sequence(
        &self,
        local: Tensor<3>,
        view: View<'_>,
        padding: Option<&Tensor<2>>,
    ) -> Sequence {
        let [b, l, dim] = local.dims();
        let (x, kept_positions, padding) = match view {
            View::All | View::Masked(_) => (local, None, padding.cloned()),
            View::Kept(masks) => {
                let kept_positions = masks.kept_positions.clone();
                (
                    masks.keep(local.reshape([b * l, dim])),
                    Some(kept_positions.reshape([masks.n_rows(), masks.n_kept()])),
                    padding.map(|padding| {
                        let kept = masks.keep(padding.clone().reshape([b * l, 1]));
                        kept.squeeze_dim(2)
                    }),
                )
            }
        };
        let alibi = self
            .alibi_scale
            .as_ref()
            .map(|scale| alibi(scale.val(), l, kept_positions));
        let padding = padding.map(padding_bias);
        let bias = match (alibi, padding) {
            (Some(alibi), Some(padding)) => Some(alibi + padding),
            (alibi, padding) => alibi.or(padding),
        };
        Sequence { x, bias }
    }

    /// Runs the blocks and calls `each` with the index and outputs of every one.
    pub fn run(&self, sequence: Sequence, each: &mut dyn FnMut(usize, &BlockOutput)) -> Tensor<3> {
        block::run(&self.blocks, sequence, 0.0, each)
    }

    /// The blocks that give targets.
    pub(super) fn blocks(&self) -> &[Block] {
        &self.blocks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::encoders::fixtures::tiny_text;
    use crate::params;

    #[test]
    fn rows_of_padding_get_no_gradient() {
        let (config, device) = (tiny_text(), Device::flex().autodiff());
        let empty = Embedding::new(&config, &device);
        let values = params::shapes(&empty).into_iter().map(|(name, shape)| {
            let n: usize = shape.iter().product();
            let values: Vec<f32> = (0..n).map(|i| (i as f32 * 12.9898).sin()).collect();
            (name, TensorData::new(values, shape))
        });
        let embedding = params::load(empty, values.collect()).expect("its own shapes");
        let pad = config.pad_token as i64;
        let tokens = TensorData::new(vec![5, 6, 7, 8, 9, 5, pad, pad], [2, 4]);
        let tokens = Tensor::<2, Int>::from_data(tokens, &device);
        let output = embedding.forward(tokens.clone(), Some(&[4, 2]));
        let gradients = output.clone().powi_scalar(3).sum().backward();
        let positions = embedding.positions.as_ref().expect("learned positions");
        for table in [embedding.tokens.val(), positions.val()] {
            let gradient = table.grad(&gradients).expect("a gradient");
            let of_row = |row: usize| {
                let row = gradient.clone().narrow(0, row, 1).abs().sum();
                row.into_scalar::<f32>()
            };
            assert!(of_row(config.pad_token) <= 0.0);
            assert!(of_row(5) > 1e-3);
        }
        // Values do not change.
        let inner = embedding.valid().forward(tokens.inner(), Some(&[4, 2]));
        let distance = (output.inner() - inner).abs().max();
        assert!(distance.into_scalar::<f32>() < 1e-5);
    }
}
