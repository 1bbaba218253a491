//! The encoders of images, audio and text behind one interface.

pub(crate) mod audio;
pub(crate) mod beit;
pub(crate) mod config;
pub(crate) mod context;
#[cfg(test)]
pub(crate) mod fixtures;
pub(crate) mod text;
pub(crate) mod vit;

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::model::input::{EncoderInput, View};
use crate::model::layers::block::{self, Block, BlockOutput, Sequence};
use audio::AudioEncoder;
use beit::Beit;
use config::EncoderConfig;
use text::TextEncoder;
use vit::Vit;

/// An encoder of one modality.
#[derive(Module, Debug)]
pub enum Encoder {
    /// Images, data2vec 1.0.
    Beit(Beit),
    /// Images, data2vec 2.0.
    Vit(Vit),
    /// Audio, both methods.
    Audio(AudioEncoder),
    /// Text, both methods.
    Text(TextEncoder),
}

impl Encoder {
    /// A student's encoder, without values; `has_mask` if masked positions get a learned value
    /// (1.0).
    pub(crate) fn new(config: EncoderConfig<'_>, has_mask: bool, device: &Device) -> Self {
        match config {
            EncoderConfig::Beit(config) => Self::Beit(Beit::new(config, device)),
            EncoderConfig::Vit(config) => Self::Vit(Vit::new(config, device)),
            EncoderConfig::Audio(config) => {
                Self::Audio(AudioEncoder::new(config, has_mask, device))
            }
            EncoderConfig::Text(config) => Self::Text(TextEncoder::new(config, device)),
        }
    }

    /// Returns the local features: patches, audio features or embedded tokens before any attention,
    /// `[B, N, D]`. None for a teacher that takes its student's.
    ///
    /// # Panics
    ///
    /// If the input is of another modality.
    pub fn local(&self, input: &EncoderInput) -> Option<Tensor<3>> {
        match (self, input) {
            (Self::Beit(encoder), EncoderInput::Images(images)) => {
                Some(encoder.local(images.clone()))
            }
            (Self::Vit(encoder), EncoderInput::Images(images)) => {
                Some(encoder.local(images.clone()))
            }
            (Self::Audio(encoder), EncoderInput::Waveforms { waveforms, .. }) => encoder
                .local()
                .map(|local| local.forward(waveforms.clone())),
            (Self::Text(encoder), EncoderInput::Tokens { tokens, lengths }) => encoder
                .embed()
                .map(|embed| embed.forward(tokens.clone(), lengths.as_deref())),
            _ => panic!("input of another modality than the encoder's"),
        }
    }

    /// Returns the input of the blocks that give targets, `[B or R, S, D]`. The first
    /// [`Self::n_extra`] tokens are not positions.
    ///
    /// # Shapes
    ///
    /// - local: `[B, N, D]`; padding: `[B, N]`, 1 = padding
    pub fn sequence(
        &self,
        local: Tensor<3>,
        view: View<'_>,
        padding: Option<&Tensor<2>>,
    ) -> Sequence {
        match self {
            Self::Beit(encoder) => encoder.sequence(
                local,
                match view {
                    View::Masked(masks) => Some(masks.mask.clone()),
                    View::All | View::Kept(_) => None,
                },
            ),
            Self::Vit(encoder) => {
                let positioned = encoder.positioned(local);
                encoder.sequence(match view {
                    View::Kept(masks) => {
                        let [b, n, dim] = positioned.dims();
                        masks.keep(positioned.reshape([b * n, dim]))
                    }
                    View::All | View::Masked(_) => positioned,
                })
            }
            Self::Audio(encoder) => encoder.sequence(local, view, padding),
            Self::Text(encoder) => encoder.sequence(local, view, padding),
        }
    }

    /// Runs the blocks that give targets and calls `each` with the index and outputs of every one.
    pub fn run(&self, sequence: Sequence, each: &mut dyn FnMut(usize, &BlockOutput)) -> Tensor<3> {
        match self {
            Self::Beit(encoder) => encoder.run(sequence, each),
            Self::Vit(encoder) => encoder.run(sequence, each),
            Self::Audio(encoder) => encoder.run(sequence, each),
            Self::Text(encoder) => encoder.run(sequence, each),
        }
    }

    /// Applies the norm after the last block, if there is one (1.0 on images).
    pub fn normed<const R: usize>(&self, x: Tensor<R>) -> Tensor<R> {
        match self {
            Self::Beit(encoder) => encoder.normed(x),
            Self::Vit(_) | Self::Audio(_) | Self::Text(_) => x,
        }
    }

    /// Returns the features with nothing masked, `[B, N, D]`: the output of the last block, for
    /// images without the class token and in 1.0 after the final norm. Values at padding are
    /// undefined.
    ///
    /// # Panics
    ///
    /// On a teacher that takes its student's local features (audio, and text of 2.0).
    pub fn features(&self, config: EncoderConfig<'_>, input: &EncoderInput) -> Tensor<3> {
        let padding = input.padding(config);
        let local = self
            .local(input)
            .expect("an encoder with local features of its own");
        let sequence = self.sequence(local, View::All, padding.as_ref());
        self.normed(self.without_extra(self.run(sequence, &mut |_, _| ())))
    }

    /// Returns the output of block `n_blocks` with nothing masked, `[B, N, D]`, before any final norm
    /// and for images without the class token. Blocks are counted from 1, without the prenet; 0 is
    /// the input of the first. Values at padding are undefined.
    ///
    /// # Panics
    ///
    /// As [`Self::features`], and if there are fewer blocks.
    pub fn hidden(
        &self,
        config: EncoderConfig<'_>,
        input: &EncoderInput,
        n_blocks: usize,
    ) -> Tensor<3> {
        let padding = input.padding(config);
        let local = self
            .local(input)
            .expect("an encoder with local features of its own");
        let sequence = self.sequence(local, View::All, padding.as_ref());
        let blocks = &self.blocks()[..n_blocks];
        self.without_extra(block::run(blocks, sequence, 0.0, &mut |_, _| ()))
    }

    /// Returns the mean of each sample's features, without padding, `[B, D]`.
    ///
    /// # Panics
    ///
    /// As [`Self::features`].
    pub fn pooled(&self, config: EncoderConfig<'_>, input: &EncoderInput) -> Tensor<2> {
        mean(self.features(config, input), input.padding(config))
    }

    fn blocks(&self) -> &[Block] {
        match self {
            Self::Beit(encoder) => encoder.blocks(),
            Self::Vit(encoder) => encoder.blocks(),
            Self::Audio(encoder) => encoder.blocks(),
            Self::Text(encoder) => encoder.blocks(),
        }
    }

    /// Number of tokens before the positions: 1 for images (class token), else 0.
    pub fn n_extra(&self) -> usize {
        match self {
            Self::Beit(_) | Self::Vit(_) => 1,
            Self::Audio(_) | Self::Text(_) => 0,
        }
    }

    /// Removes the tokens before the positions: `[B, extra + N, D]` → `[B, N, D]`.
    pub fn without_extra(&self, tokens: Tensor<3>) -> Tensor<3> {
        let [_, n_tokens, _] = tokens.dims();
        match self.n_extra() {
            0 => tokens,
            n_extra => tokens.narrow(1, n_extra, n_tokens - n_extra),
        }
    }
}

/// Returns the mean over positions that are not padding.
///
/// # Shapes
///
/// - features: `[B, N, D]`; padding: `[B, N]`, 1 = padding; output: `[B, D]`
pub fn mean(features: Tensor<3>, padding: Option<Tensor<2>>) -> Tensor<2> {
    let [b, n, dim] = features.dims();
    match padding {
        None => features.mean_dim(1).reshape([b, dim]),
        Some(padding) => {
            let own = padding.neg().add_scalar(1.0).reshape([b, n, 1]);
            let count = own.clone().sum_dim(1).clamp_min(1.0);
            ((features * own).sum_dim(1) / count).reshape([b, dim])
        }
    }
}
