//! What a network looks at, and what of it it sees.

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::encoders::config::EncoderConfig;
use super::masks::Masks;

/// EncoderInput of B samples on the plain device.
#[derive(Debug, Clone)]
pub enum EncoderInput {
    /// Normalised pictures, `[B, 3, side, side]`.
    Images(Tensor<4>),
    /// Normalised waveforms.
    Waves {
        /// `[B, T]`, zero after each one's end.
        waveforms: Tensor<2>,
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

impl EncoderInput {
    /// Which positions are padding, `[B, N]`, 1 = padding; none where no sample has any.
    pub fn padding(&self, config: EncoderConfig<'_>) -> Option<Tensor<2>> {
        let lengths = self.n_positions(config)?;
        Some(match (self, config) {
            (Self::Waveforms { waveforms, .. }, EncoderConfig::Audio(config)) => {
                let [_, n_frames] = waveforms.dims();
                padding(&lengths, config.n_positions(n_frames), &waveforms.device())
            }
            (Self::Tokens { tokens, .. }, _) => {
                let [_, l] = tokens.dims();
                padding(&lengths, l, &tokens.device())
            }
            _ => return None,
        })
    }

    /// Positions of each sample that are no padding, `[B]`; none where no sample has any padding.
    pub fn n_positions(&self, config: EncoderConfig<'_>) -> Option<Vec<usize>> {
        match (self, config) {
            (
                Self::Waveforms {
                    lengths: Some(lengths),
                    ..
                },
                EncoderConfig::Audio(config),
            ) => Some(lengths.iter().map(|&n| config.n_positions(n)).collect()),
            (Self::Tokens { lengths, .. }, _) => lengths.clone(),
            _ => None,
        }
    }
}

/// Which positions are padding, `[B, N]`, 1 = padding.
fn padding(lengths: &[usize], n_positions: usize, device: &Device) -> Tensor<2> {
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
