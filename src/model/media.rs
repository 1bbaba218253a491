//! What a network looks at, and what of it it sees.

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::Masks;

/// Media of B samples on the plain device.
#[derive(Debug, Clone)]
pub enum Media {
    /// Normalised pictures, `[B, 3, side, side]`.
    Images(Tensor<4>),
    /// Normalised waves.
    Waves {
        /// `[B, T]`, zero after each one's end.
        waves: Tensor<2>,
        /// Frames of each, where they differ.
        lengths: Option<Vec<usize>>,
    },
    /// Tokens.
    Tokens {
        /// `[B, L]`, the pad token after each row's end.
        tokens: Tensor<2, Int>,
        /// Tokens of each, where they differ.
        lengths: Option<Vec<usize>>,
    },
}

/// What an encoder sees of the positions.
#[derive(Debug, Clone, Copy)]
pub enum View<'a> {
    /// All.
    All,
    /// All, a learned value in the place of masked ones (1.0; one mask per sample).
    Masked(&'a Masks),
    /// The kept ones alone, for each row of masks (2.0).
    Kept(&'a Masks),
}

/// Which positions are padding, `[B, N]`, 1 = padding.
pub(super) fn padding(lengths: &[usize], n_positions: usize, device: &Device) -> Tensor<2> {
    let values: Vec<f32> = lengths
        .iter()
        .flat_map(|&len| (0..n_positions).map(move |position| f32::from(position >= len)))
        .collect();
    Tensor::from_data(
        TensorData::new(values, [lengths.len(), n_positions]),
        &device.clone().without_autodiff(),
    )
}

/// Takes padding out of attention: what is added to the logits of `[B, n]` positions' keys,
/// `[B, 1, n, n]`.
pub(super) fn padding_bias(padding: Tensor<2>) -> Tensor<4> {
    // Softmax makes an exact zero of it, and it stays finite in every float type.
    const NEVER: f64 = -1e30;
    let [b, n] = padding.dims();
    padding
        .mul_scalar(NEVER)
        .reshape([b, 1, 1, n])
        .expand([b, 1, n, n])
}
