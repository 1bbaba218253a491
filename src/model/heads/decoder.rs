//! The decoder of data2vec 2.0.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::check::{Check, MOST_LAYERS, MOST_WIDTH};
use crate::model::layers::conv::{Conv1d, Conv2d};
use crate::model::layers::conv_stack::{Conv, convolve};
use crate::model::layers::dropout::dropout;
use crate::model::layers::linear::Head;

/// The convolutional decoder: the table `[model.data2vec2.decoder]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DecoderConfig {
    /// Number of convolutions; images 6 for B, 3 for L and H; audio 4, text 5.
    pub n_layers: usize,
    /// Channels; images 768 for B, 1024 for L and H; audio 384 for B, 768 for L; text 768.
    pub dim: usize,
    /// Length of the kernel (images: its side), odd; images 3 for B, 5 for L and H; audio 7, text 9.
    pub kernel: usize,
    /// Groups of channels; 16, text 1.
    pub groups: usize,
    /// Whether the input of a convolution is added to its output; false for text.
    #[serde(default = "yes")]
    pub residual: bool,
    /// Hidden width of the projection back to the encoder's width, 1536 for text; if absent, the
    /// projection is one linear map.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proj_hidden_dim: Option<usize>,
    /// Probability to drop a value of the encoder's output before noise fills the masked positions;
    /// 0.1 for audio and text.
    #[serde(default)]
    pub input_drop_prob: f64,
}

fn yes() -> bool {
    true
}

impl DecoderConfig {
    /// Returns a message for each invalid option, without the name of the table.
    pub(crate) fn problems(&self, embed_dim: usize, is_image: bool) -> Vec<String> {
        let mut check = Check::default();
        check.positive("n_layers", self.n_layers);
        check.at_most("n_layers", self.n_layers, MOST_LAYERS);
        check.at_most("dim", self.dim, MOST_WIDTH);
        check.at_most("kernel", self.kernel, MOST_WIDTH);
        check.at_most(
            "proj_hidden_dim",
            self.proj_hidden_dim.unwrap_or(0),
            MOST_WIDTH,
        );
        let [n_layers, dim, kernel] = [self.n_layers, self.dim, self.kernel].map(|n| n as f64);
        let kernel = if is_image { kernel.powi(2) } else { kernel };
        check.parameters(
            "convolutions (n_layers, dim, kernel)",
            n_layers * dim.powi(2) * kernel / self.groups.max(1) as f64,
        );
        check.odd("kernel", self.kernel);
        check.divides(("groups", self.groups), ("dim", self.dim));
        check.divides(("groups", self.groups), ("embed_dim", embed_dim));
        check.require(self.proj_hidden_dim != Some(0), || {
            "proj_hidden_dim is 0; remove it for a linear projection".to_owned()
        });
        check.prob("input_drop_prob", self.input_drop_prob);
        check.problems
    }
}

/// Convolutions over all positions, then a projection to the encoder's width.
#[derive(Module, Debug)]
pub struct Decoder {
    blocks: Vec<Conv>,
    proj: Head,
    residual: bool,
    input_drop_prob: f64,
}

impl Decoder {
    /// A decoder of an encoder of width `embed_dim`, over a square grid of patches or a sequence,
    /// without values.
    pub fn new(config: &DecoderConfig, embed_dim: usize, is_grid: bool, device: &Device) -> Self {
        let DecoderConfig {
            dim,
            kernel,
            groups,
            ..
        } = *config;
        let blocks = (0..config.n_layers).map(|layer_idx| {
            let n_in = if layer_idx == 0 { embed_dim } else { dim };
            if is_grid {
                Conv::Grid(Conv2d::new(n_in, dim, kernel, groups, device))
            } else {
                Conv::Line(Conv1d::same(n_in, dim, kernel, groups, device))
            }
        });
        Self {
            blocks: blocks.collect(),
            proj: Head::new(dim, config.proj_hidden_dim, embed_dim, device),
            residual: config.residual,
            input_drop_prob: config.input_drop_prob,
        }
    }

    /// Applies the input dropout to the encoder's output, in training.
    ///
    /// # Shapes
    ///
    /// - kept: `[rows, D]`
    pub fn input(&self, kept: Tensor<2>) -> Tensor<2> {
        dropout(kept, self.input_drop_prob)
    }

    /// # Shapes
    ///
    /// - x: `[R, N, D]`; output: `[R, N, decoder.dim]`, before [`Self::project`]
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        convolve(&self.blocks, x, self.residual)
    }

    /// Projects to the encoder's width.
    ///
    /// # Shapes
    ///
    /// - input: `[rows, decoder.dim]`; output: `[rows, D]`
    pub fn project(&self, rows: Tensor<2>) -> Tensor<2> {
        self.proj.forward_rows(rows)
    }
}
