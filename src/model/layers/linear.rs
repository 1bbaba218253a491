//! Linear maps, the MLP of a block, and the map from positions to predictions.

use burn::module::{Module, Param};
use burn::tensor::module::linear;
use burn::tensor::{Device, Tensor, activation};

use super::parameter::parameter;

/// y = x·Wᵀ + b.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[out, in]`, PyTorch's layout.
    pub weight: Param<Tensor<2>>,
    /// `[out]`.
    pub bias: Option<Param<Tensor<1>>>,
}

impl Linear {
    /// A map with bias, without values.
    pub fn new(n_in: usize, n_out: usize, device: &Device) -> Self {
        Self {
            weight: parameter([n_out, n_in], device),
            bias: Some(parameter([n_out], device)),
        }
    }

    /// A map without bias, without values.
    pub fn without_bias(n_in: usize, n_out: usize, device: &Device) -> Self {
        Self {
            weight: parameter([n_out, n_in], device),
            bias: None,
        }
    }

    /// # Shapes
    ///
    /// - input: `[rows, in]`; output: `[rows, out]`
    pub fn forward_rows(&self, x: Tensor<2>) -> Tensor<2> {
        linear(
            x,
            self.weight.val().transpose(),
            self.bias.as_ref().map(Param::val),
        )
    }

    /// # Shapes
    ///
    /// - input: `[B, S, in]`; output: `[B, S, out]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        // Flattened to rows it is one matrix product; burn would batch it.
        let [b, s, n_in] = x.dims();
        let y = self.forward_rows(x.reshape([b * s, n_in]));
        let [_, n_out] = y.dims();
        y.reshape([b, s, n_out])
    }
}

/// Two linear layers with the exact (erf) GELU between.
#[derive(Module, Debug)]
pub struct Mlp {
    fc1: Linear,
    fc2: Linear,
}

impl Mlp {
    /// An MLP `n_in` → `hidden_dim` → `n_out`, without values.
    pub fn new(n_in: usize, hidden_dim: usize, n_out: usize, device: &Device) -> Self {
        Self {
            fc1: Linear::new(n_in, hidden_dim, device),
            fc2: Linear::new(hidden_dim, n_out, device),
        }
    }

    /// # Shapes
    ///
    /// - input: `[rows, in]`; output: `[rows, out]`
    pub fn forward_rows(&self, x: Tensor<2>) -> Tensor<2> {
        self.fc2
            .forward_rows(activation::gelu(self.fc1.forward_rows(x)))
    }

    /// # Shapes
    ///
    /// - input and output: `[B, S, D]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [b, s, dim] = x.dims();
        self.forward_rows(x.reshape([b * s, dim]))
            .reshape([b, s, dim])
    }
}

/// The map from a position to its prediction: one linear layer, or two with GELU between (text).
#[derive(Module, Debug)]
pub enum Head {
    /// One linear layer.
    Linear(Linear),
    /// Two linear layers with GELU between.
    Mlp(Mlp),
}

impl Head {
    /// A head `n_in` → `n_out`, with a hidden layer if `hidden_dim` is given, without values.
    pub fn new(n_in: usize, hidden_dim: Option<usize>, n_out: usize, device: &Device) -> Self {
        match hidden_dim {
            None => Self::Linear(Linear::new(n_in, n_out, device)),
            Some(hidden_dim) => Self::Mlp(Mlp::new(n_in, hidden_dim, n_out, device)),
        }
    }

    /// # Shapes
    ///
    /// - input: `[rows, in]`; output: `[rows, out]`
    pub fn forward_rows(&self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Linear(linear) => linear.forward_rows(x),
            Self::Mlp(mlp) => mlp.forward_rows(x),
        }
    }
}
