//! The table `[data.mask]`: one strategy and its keys.
//!
//! Each strategy is one file with its keys, their check, its counts and its sampler; the enum here
//! only dispatches.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::beit_block::BeitBlock;
use super::bert::Bert;
use super::blocks::Blocks;
use super::inverse_block::InverseBlock;
use super::spans::{self, Spans};
use super::token_spans::TokenSpans;
use super::tokens::Tokens;
use crate::config::media::Modality;
use crate::rng::{Purpose, Rng, SampleKey};
use crate::tokenize::SpecialTokens;

/// Positions that the student does not see. The grid of an image's patches is square.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum MaskConfig {
    /// BEiT's block-wise mask (data2vec 1.0, images).
    BeitBlock(BeitBlock),
    /// data2vec 2.0's inverse block mask of images: blocks are kept, the rest is masked.
    InverseBlock(InverseBlock),
    /// wav2vec 2.0's spans (data2vec 1.0, audio); all masks of a micro-batch keep the same number.
    Spans(Spans),
    /// Blocks and single positions to an exact count (data2vec 2.0, audio).
    Blocks(Blocks),
    /// Spans of tokens, each replaced by `<mask>` (data2vec 1.0, text).
    TokenSpans(TokenSpans),
    /// BERT's mask: chosen tokens become `<mask>`, a random token, or stay (data2vec 1.0, text).
    Bert(Bert),
    /// Single tokens at random to an exact count (data2vec 2.0, text).
    Tokens(Tokens),
}

impl MaskConfig {
    /// Returns the key under `[data.mask]`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::BeitBlock(_) => "beit_block",
            Self::InverseBlock(_) => "inverse_block",
            Self::Spans(_) => "spans",
            Self::Blocks(_) => "blocks",
            Self::TokenSpans(_) => "token_spans",
            Self::Bert(_) => "bert",
            Self::Tokens(_) => "tokens",
        }
    }

    /// Returns whether such masks can be drawn over such samples.
    pub(crate) fn suits(&self, modality: Modality) -> bool {
        match self {
            Self::BeitBlock(_) | Self::InverseBlock(_) => modality == Modality::Image,
            Self::Spans(_) | Self::Blocks(_) => modality == Modality::Audio,
            Self::TokenSpans(_) | Self::Bert(_) | Self::Tokens(_) => modality == Modality::Text,
        }
    }

    /// Lists the strategies of a modality, for error messages.
    pub(crate) fn names_for(modality: Modality) -> &'static str {
        match modality {
            Modality::Image => "beit_block or inverse_block",
            Modality::Audio => "spans or blocks",
            Modality::Text => "token_spans, bert or tokens",
        }
    }

    /// Returns the invalid keys, as `data.mask.STRATEGY.KEY: problem`.
    pub(crate) fn problems(&self) -> Vec<String> {
        let problems = match self {
            Self::BeitBlock(mask) => mask.check(),
            Self::InverseBlock(mask) => mask.check(),
            Self::Spans(mask) => mask.check(),
            Self::Blocks(mask) => mask.check(),
            Self::TokenSpans(mask) => mask.check(),
            Self::Bert(mask) => mask.check(),
            Self::Tokens(mask) => mask.check(),
        };
        let full = |problem: String| format!("data.mask.{}.{problem}", self.name());
        problems.into_iter().map(full).collect()
    }

    /// Returns the patches per side of an image's grid; `None` for masks of audio and text.
    pub fn grid(&self) -> Option<usize> {
        match self {
            Self::BeitBlock(mask) => Some(mask.grid),
            Self::InverseBlock(mask) => Some(mask.grid),
            Self::Spans(_)
            | Self::Blocks(_)
            | Self::TokenSpans(_)
            | Self::Bert(_)
            | Self::Tokens(_) => None,
        }
    }

    /// Changes the grid of a mask of images and scales the masked area with it; leaves masks of
    /// audio and text unchanged.
    pub fn fit_grid(&mut self, grid: usize) {
        match self {
            Self::BeitBlock(mask) => mask.fit_grid(grid),
            Self::InverseBlock(mask) => mask.fit_grid(grid),
            Self::Spans(_)
            | Self::Blocks(_)
            | Self::TokenSpans(_)
            | Self::Bert(_)
            | Self::Tokens(_) => {}
        }
    }

    /// Returns the patches of an image, rows · columns of a mask; `None` for audio and text.
    pub fn n_patches(&self) -> Option<usize> {
        self.grid().map(|grid| grid * grid)
    }

    /// Returns the masks per sample, M.
    pub fn n_masks(&self) -> usize {
        match self {
            Self::BeitBlock(_) | Self::Spans(_) | Self::TokenSpans(_) | Self::Bert(_) => 1,
            Self::InverseBlock(mask) => mask.n_masks,
            Self::Blocks(mask) => mask.n_masks,
            Self::Tokens(mask) => mask.n_masks,
        }
    }

    /// Returns how many of `n_positions` every mask leaves visible; `None` if the count differs from
    /// mask to mask.
    pub fn n_kept(&self, n_positions: usize) -> Option<usize> {
        match self {
            Self::InverseBlock(mask) => Some(mask.n_kept()),
            Self::Blocks(mask) => Some(mask.n_kept(n_positions)),
            Self::Tokens(mask) => Some(mask.n_kept(n_positions)),
            Self::BeitBlock(_) | Self::Spans(_) | Self::TokenSpans(_) | Self::Bert(_) => None,
        }
    }

    /// Returns whether the student sees other tokens in place of the masked ones.
    pub fn replaces_tokens(&self) -> bool {
        match self {
            Self::TokenSpans(_) | Self::Bert(_) => true,
            Self::BeitBlock(_)
            | Self::InverseBlock(_)
            | Self::Spans(_)
            | Self::Blocks(_)
            | Self::Tokens(_) => false,
        }
    }

    /// Draws the masks of one sample into `out`: `[n_masks, P]`, row-major, 1 = masked, P given by
    /// the length of `out`.
    ///
    /// # Panics
    ///
    /// If `out` does not divide into `n_masks` rows, if P is not the patches of an image, or for a
    /// mask that replaces tokens: [`MaskConfig::draw_tokens`] draws those.
    pub fn draw(&self, key: SampleKey, out: &mut [u8]) {
        let n_positions = out.len() / self.n_masks();
        assert_eq!(out.len(), self.n_masks() * n_positions);
        if let Some(n_patches) = self.n_patches() {
            assert_eq!(n_positions, n_patches);
        }
        if n_positions == 0 {
            return;
        }
        for (index, out) in out.chunks_exact_mut(n_positions).enumerate() {
            let rng = &mut Rng::for_sample(key, Purpose::Mask, index as u32);
            match self {
                Self::BeitBlock(mask) => mask.draw(rng, out),
                Self::InverseBlock(mask) => mask.draw(rng, out),
                Self::Spans(mask) => mask.draw(rng, out),
                Self::Blocks(mask) => mask.draw(rng, out),
                Self::Tokens(mask) => mask.draw(rng, out),
                Self::TokenSpans(_) | Self::Bert(_) => {
                    panic!("masks that replace tokens are drawn with the tokens")
                }
            }
        }
    }

    /// Draws the one mask of a text and replaces the masked tokens: `tokens` `[P]` are the sample's
    /// own, without padding, and become the student's input; `mask` `[P]` is 1 where that is
    /// `<mask>`.
    ///
    /// # Panics
    ///
    /// For a mask that does not replace tokens.
    pub fn draw_tokens(
        &self,
        key: SampleKey,
        special: &SpecialTokens,
        tokens: &mut [u32],
        mask: &mut [u8],
    ) {
        let rng = &mut Rng::for_sample(key, Purpose::Mask, 0);
        match self {
            Self::TokenSpans(strategy) => strategy.draw(special, rng, tokens, mask),
            Self::Bert(strategy) => strategy.draw(special, rng, tokens, mask),
            Self::BeitBlock(_)
            | Self::InverseBlock(_)
            | Self::Spans(_)
            | Self::Blocks(_)
            | Self::Tokens(_) => panic!("this mask does not replace tokens"),
        }
    }

    /// Makes the counts of a batch's masks equal where the strategy asks for it: only spans do.
    /// `masks` is `[B, n_masks, n_positions]`, `keys` is `[B]`.
    pub fn equalise(&self, masks: &mut [u8], n_positions: usize, keys: &[SampleKey]) {
        match self {
            Self::Spans(_) => spans::equalise(masks, n_positions, keys),
            Self::BeitBlock(_)
            | Self::InverseBlock(_)
            | Self::Blocks(_)
            | Self::TokenSpans(_)
            | Self::Bert(_)
            | Self::Tokens(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: SampleKey = SampleKey {
        seed: 1,
        epoch: 0,
        sample: 5,
    };

    fn drawn(config: &MaskConfig, key: SampleKey) -> Vec<u8> {
        let mut out = vec![2; config.n_masks() * 196];
        config.draw(key, &mut out);
        out
    }

    #[test]
    fn masks_depend_on_the_key_alone() {
        let config = MaskConfig::InverseBlock(InverseBlock {
            grid: 14,
            n_masks: 8,
            mask_prob: 0.8,
            mask_prob_adjust: 0.07,
            block: 3,
        });
        let masks = drawn(&config, KEY);
        assert_eq!(masks, drawn(&config, KEY));
        assert_ne!(masks, drawn(&config, SampleKey { sample: 6, ..KEY }));
        assert_ne!(masks, drawn(&config, SampleKey { epoch: 1, ..KEY }));
        let mut rows: Vec<&[u8]> = masks.chunks(196).collect();
        rows.sort_unstable();
        rows.dedup();
        assert_eq!(rows.len(), 8, "two masks of one sample are the same");
    }
}
