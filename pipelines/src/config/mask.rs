//! Which positions the student does not see: the table `[data.mask]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Modality;

/// Which positions the student does not see. The grid of a picture's patches is square.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum MaskConfig {
    /// BEiT's block-wise mask (data2vec 1.0, pictures).
    BeitBlock {
        /// Patches per side.
        grid: usize,
        /// Patches to mask; a mask may end up a few short.
        n_masked: usize,
        /// Smallest block, in patches.
        min_area: usize,
        /// Least height / width of a block; the greatest is its inverse.
        min_aspect: f64,
    },
    /// data2vec 2.0's inverse block mask of pictures: blocks are kept, the rest is masked.
    InverseBlock {
        /// Patches per side.
        grid: usize,
        /// Masks per sample, M.
        n_masks: usize,
        /// Share of patches masked, R.
        mask_prob: f64,
        /// Added to the kept share before blocks are counted, A.
        mask_prob_adjust: f64,
        /// Side of a kept block, in patches, b.
        block: usize,
    },
    /// wav2vec 2.0's spans (data2vec 1.0, audio); all masks of a micro-batch keep the same number.
    Spans {
        /// Share of positions that spans would mask if none overlapped.
        prob: f64,
        /// Positions of a span.
        length: usize,
    },
    /// Blocks and single positions to an exact count (data2vec 2.0, audio).
    Blocks {
        /// Masks per sample, M.
        n_masks: usize,
        /// Share of positions masked, R.
        prob: f64,
        /// Added to the masked share before blocks are counted, A.
        prob_adjust: f64,
        /// Positions of a block, b.
        block: usize,
    },
    /// Spans of tokens, each replaced by `<mask>` (data2vec 1.0, text).
    TokenSpans {
        /// Share of tokens that spans would mask if none overlapped.
        prob: f64,
        /// Tokens of a span.
        length: usize,
    },
    /// BERT's mask: chosen tokens become `<mask>`, a random token, or stay (data2vec 1.0, text).
    Bert {
        /// Share of tokens chosen.
        prob: f64,
        /// Share of the chosen that become `<mask>`: those alone are predicted.
        mask: f64,
        /// Share of the chosen that become a random token.
        random: f64,
    },
    /// Single tokens at random to an exact count (data2vec 2.0, text).
    Tokens {
        /// Masks per sample, M.
        n_masks: usize,
        /// Share of tokens masked, R.
        prob: f64,
    },
}

impl MaskConfig {
    /// Patches per side of a picture's grid; `None` for masks of audio and text.
    pub fn grid(&self) -> Option<usize> {
        match *self {
            Self::BeitBlock { grid, .. } | Self::InverseBlock { grid, .. } => Some(grid),
            _ => None,
        }
    }

    /// Masks per sample, M.
    pub fn n_masks(&self) -> usize {
        match *self {
            Self::BeitBlock { .. }
            | Self::Spans { .. }
            | Self::TokenSpans { .. }
            | Self::Bert { .. } => 1,
            Self::InverseBlock { n_masks, .. }
            | Self::Blocks { n_masks, .. }
            | Self::Tokens { n_masks, .. } => n_masks,
        }
    }

    /// Its key under `[data.mask]`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::BeitBlock { .. } => "beit_block",
            Self::InverseBlock { .. } => "inverse_block",
            Self::Spans { .. } => "spans",
            Self::Blocks { .. } => "blocks",
            Self::TokenSpans { .. } => "token_spans",
            Self::Bert { .. } => "bert",
            Self::Tokens { .. } => "tokens",
        }
    }

    /// Whether such masks can be drawn over such samples.
    pub(super) fn suits(&self, modality: Modality) -> bool {
        matches!(
            (modality, self),
            (
                Modality::Image(_),
                Self::BeitBlock { .. } | Self::InverseBlock { .. }
            ) | (Modality::Audio(_), Self::Spans { .. } | Self::Blocks { .. })
                | (
                    Modality::Text(_),
                    Self::TokenSpans { .. } | Self::Bert { .. } | Self::Tokens { .. }
                )
        )
    }

    pub(super) fn names_for(modality: Modality) -> &'static str {
        match modality {
            Modality::Image(_) => "beit_block or inverse_block",
            Modality::Audio(_) => "spans or blocks",
            Modality::Text(_) => "token_spans, bert or tokens",
        }
    }

    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |holds: bool, problem: String| {
            if !holds {
                problems.push(format!("data.mask.{}.{problem}", self.name()));
            }
        };
        let within = |value: f64| 0.0 < value && value < 1.0;
        let prob_problem = |value: f64| format!("prob: must lie in (0, 1), is {value}");
        let adjust_problem = |value: f64| format!("must lie in [0, 1], is {value}");
        check(self.n_masks() > 0, "n_masks: must be at least 1".to_owned());
        match *self {
            Self::BeitBlock {
                grid,
                n_masked,
                min_area,
                min_aspect,
            } => {
                check(
                    0 < n_masked && n_masked < grid * grid,
                    format!("n_masked: {n_masked} of {} patches", grid * grid),
                );
                check(
                    min_area > 0 && min_area <= n_masked,
                    format!("min_area: must lie in 1..={n_masked}, is {min_area}"),
                );
                check(
                    0.0 < min_aspect && min_aspect <= 1.0,
                    format!("min_aspect: must lie in (0, 1], is {min_aspect}"),
                );
            }
            Self::InverseBlock {
                grid,
                mask_prob,
                mask_prob_adjust,
                block,
                ..
            } => {
                check(
                    within(mask_prob),
                    format!("mask_{}", prob_problem(mask_prob)),
                );
                check(
                    (0.0..=1.0).contains(&mask_prob_adjust),
                    format!("mask_prob_adjust: {}", adjust_problem(mask_prob_adjust)),
                );
                check(
                    self.n_kept(grid * grid).is_some_and(|n| n > 0),
                    format!(
                        "mask_prob: {mask_prob} leaves none of {} patches",
                        grid * grid
                    ),
                );
                check(
                    block > 0 && block <= grid,
                    format!("block: must lie in 1..={grid}, is {block}"),
                );
            }
            Self::Spans { prob, length } | Self::TokenSpans { prob, length } => {
                check(within(prob), prob_problem(prob));
                check(length > 0, "length: must be at least 1".to_owned());
            }
            Self::Blocks {
                prob,
                prob_adjust,
                block,
                ..
            } => {
                check(within(prob), prob_problem(prob));
                check(
                    (0.0..=1.0).contains(&prob_adjust),
                    format!("prob_adjust: {}", adjust_problem(prob_adjust)),
                );
                check(block > 0, "block: must be at least 1".to_owned());
            }
            Self::Bert { prob, mask, random } => {
                check(within(prob), prob_problem(prob));
                check(
                    mask > 0.0 && random >= 0.0 && mask + random <= 1.0,
                    format!("mask: with random must be shares of 1, are {mask} and {random}"),
                );
            }
            Self::Tokens { prob, .. } => check(within(prob), prob_problem(prob)),
        }
        problems
    }
}
