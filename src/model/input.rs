//! The input of an encoder, and which of its positions the encoder sees.

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::encoders::config::EncoderConfig;
use super::masks::Masks;

/// B samples on the plain device.
#[derive(Debug, Clone)]
pub enum EncoderInput {
    /// Normalised images, `[B, 3, side, side]`.
    Images(Tensor<4>),
    /// Normalised waveforms.
    Waveforms {
        /// `[B, T]`, zero after the end of each utterance.
        waveforms: Tensor<2>,
        /// PCM frames of each, `[B]`; none where all fill T.
        lengths: Option<Vec<usize>>,
    },
    /// Tokenized text.
    Tokens {
        /// Token ids, `[B, L]`, the pad token after the end of each row.
        tokens: Tensor<2, Int>,
        /// Tokens of each, `[B]`; none where all fill L.
        lengths: Option<Vec<usize>>,
    },
}

/// The positions that an encoder sees.
#[derive(Debug, Clone, Copy)]
pub enum View<'a> {
    /// All positions, none masked.
    All,
    /// All positions, with a learned value in place of masked ones (1.0; one mask per sample).
    Masked(&'a Masks),
    /// Only the kept ones, for each row of masks (2.0).
    Kept(&'a Masks),
}

impl EncoderInput {
    /// The padding mask, `[B, N]`, 1 = padding; none where no sample is padded.
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

    /// Positions of each sample that are not padding, `[B]`; none where no sample is padded.
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

/// The padding mask of samples with `lengths` positions, `[B, N]`, 1 = padding.
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

/// Turns a padding mask, `[B, n]`, into the attention bias that hides padded keys, `[B, 1, n, n]`.
pub(super) fn padding_bias(padding: Tensor<2>) -> Tensor<4> {
    // Softmax turns it into an exact zero, and it stays finite in every float type.
    const NEVER: f64 = -1e30;
    let [b, n] = padding.dims();
    padding
        .mul_scalar(NEVER)
        .reshape([b, 1, 1, n])
        .expand([b, 1, n, n])
}
