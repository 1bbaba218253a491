//! Multi-head self-attention with one fused matrix for queries, keys and values.

use burn::module::{Module, Param};
use burn::tensor::module::linear;
use burn::tensor::{Device, Tensor};

use super::block_config::BlockConfig;
use super::dropout::dropout;
use super::fused;
use super::linear::Linear;
use super::parameter::parameter;
use super::position::RelativePositionBias;

/// Multi-head self-attention.
#[derive(Module, Debug)]
pub struct Attention {
    /// Rows 0–D give queries, D–2D keys, 2D–3D values. It has a bias in all encoders but BEiT's.
    qkv: Linear,
    /// BEiT's biases: queries and values have one, keys have none.
    q_bias: Option<Param<Tensor<1>>>,
    v_bias: Option<Param<Tensor<1>>>,
    /// A position table of this layer only (fine-tuned models of data2vec 1.0).
    rel_pos_bias: Option<RelativePositionBias>,
    proj: Linear,
    n_heads: usize,
    drop_prob: f64,
}

impl Attention {
    /// The attention of a block, without values.
    pub fn new(config: &BlockConfig, device: &Device) -> Self {
        let dim = config.dim;
        let bias = || config.separate_qv_bias.then(|| parameter([dim], device));
        Self {
            qkv: if config.separate_qv_bias {
                Linear::without_bias(dim, 3 * dim, device)
            } else {
                Linear::new(dim, 3 * dim, device)
            },
            q_bias: bias(),
            v_bias: bias(),
            rel_pos_bias: config
                .rel_pos_grid
                .map(|grid| RelativePositionBias::new(grid, config.n_heads, device)),
            proj: Linear::new(dim, dim, device),
            n_heads: config.n_heads,
            drop_prob: config.attention_drop_prob,
        }
    }

    /// # Shapes
    ///
    /// - x: `[B, S, D]`; output: `[B, S, D]`
    /// - bias, added to the logits: `[B or 1, H or 1, S, S]`
    pub fn forward(&self, x: Tensor<3>, bias: Option<Tensor<4>>) -> Tensor<3> {
        let [b, s, dim] = x.dims();
        let rows = x.reshape([b * s, dim]);
        let weight = self.qkv.weight.val();
        let fused_bias = self.qkv.bias.as_ref().map(Param::val);
        // Three products with slices of the weight: burn's backward of a slice writes a zeroed
        // copy of the full tensor, which is far larger for the activations than for the weight.
        let project = |third: usize, own_bias: Option<&Param<Tensor<1>>>| {
            let range = third * dim..(third + 1) * dim;
            let bias = match &fused_bias {
                Some(bias) => Some(bias.clone().slice([range.clone()])),
                None => own_bias.map(Param::val),
            };
            linear(
                rows.clone(),
                weight.clone().slice([range]).transpose(),
                bias,
            )
            .reshape([b, s, self.n_heads, dim / self.n_heads])
            .swap_dims(1, 2)
        };
        let q = project(0, self.q_bias.as_ref());
        let k = project(1, None);
        let v = project(2, self.v_bias.as_ref());

        let bias = match &self.rel_pos_bias {
            Some(own) => Some(own.forward()),
            None => bias,
        };
        let y = attend(q, k, v, bias, self.drop_prob);
        self.proj
            .forward_rows(y.swap_dims(1, 2).reshape([b * s, dim]))
            .reshape([b, s, dim])
    }
}

/// softmax(q·kᵀ / √d + bias)·v, with dropout of the probabilities on the autodiff device.
///
/// # Shapes
///
/// - q, k, v and output: `[B, H, S, D / H]`; bias: `[B or 1, H or 1, S, S]`
fn attend(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    bias: Option<Tensor<4>>,
    drop_prob: f64,
) -> Tensor<4> {
    if drop_prob == 0.0 || !q.is_autodiff() {
        return fused::attention(q, k, v, bias);
    }
    dropout(fused::probabilities(q, k, bias), drop_prob).matmul(v)
}
