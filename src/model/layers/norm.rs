//! Normalisation over channels and over positions.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fused;
use super::parameter::parameter;

/// A normalisation without gain and bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Norm {
    /// No normalisation.
    None,
    /// Each position over its channels.
    Layer,
    /// Each channel over the sample's positions.
    Instance,
}

/// Normalisation over the last dimension with a gain and a bias (Ba et al. 2016).
#[derive(Module, Debug)]
pub struct LayerNorm {
    /// Gain, `[D]`.
    pub weight: Param<Tensor<1>>,
    /// Bias, `[D]`.
    pub bias: Param<Tensor<1>>,
    eps: f64,
}

impl LayerNorm {
    /// A norm over `dim` channels, without values; `eps` is added to the variance.
    pub fn new(dim: usize, eps: f64, device: &Device) -> Self {
        Self {
            weight: parameter([dim], device),
            bias: parameter([dim], device),
            eps,
        }
    }

    /// # Shapes
    ///
    /// - input and output: `[..., D]`
    pub fn forward<const R: usize>(&self, x: Tensor<R>) -> Tensor<R> {
        fused::layer_norm(x, self.weight.val(), self.bias.val(), self.eps)
    }
}

/// Normalises over the last dimension without gain and bias.
pub(crate) fn layer_norm<const R: usize>(x: Tensor<R>, eps: f64) -> Tensor<R> {
    let [dim] = [x.dims()[R - 1]];
    let (gain, bias) = fused::no_affine(&x, dim);
    fused::layer_norm(x, gain, bias, eps)
}

/// Normalises each channel over the sample's positions: `[B, N, D]`, biased variance.
pub(crate) fn instance_norm(x: Tensor<3>, eps: f64) -> Tensor<3> {
    let centered = x.clone() - x.mean_dim(1);
    let variance = centered.clone().square().mean_dim(1);
    centered / variance.add_scalar(eps).sqrt()
}
