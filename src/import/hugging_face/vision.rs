//! data2vec 1.0 images: Hugging Face's `Data2VecVisionModel` and `…ForImageClassification`.

use serde::Deserialize;

use crate::import::fused;
use crate::import::{ImportError, Name, Tensors, rename};
use crate::model::{RelativePosition, Vit1Config};

/// What we need of a folder's `config.json`; it holds more.
#[derive(Debug, Clone, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "the file's own keys")]
pub struct VisionConfig {
    /// Width.
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Blocks.
    pub num_hidden_layers: usize,
    /// Heads.
    pub num_attention_heads: usize,
    /// Side of the picture, in pixels.
    pub image_size: usize,
    /// Side of a patch, in pixels.
    pub patch_size: usize,
    /// Colours.
    pub num_channels: usize,
    /// Added to the variance by the norms; Hugging Face's default is 1e-12.
    pub layer_norm_eps: f64,
    /// LayerScale at the start; 0 for none.
    pub layer_scale_init_value: f64,
    /// Probability to drop the last block's branches.
    pub drop_path_rate: f64,
    /// Probability to drop an attention weight.
    pub attention_probs_dropout_prob: f64,
    /// The activation of the MLP.
    pub hidden_act: String,
    /// Learned absolute positions.
    pub use_absolute_position_embeddings: bool,
    /// One table of relative positions per block.
    pub use_relative_position_bias: bool,
    /// One table for all blocks.
    pub use_shared_relative_position_bias: bool,
    /// Pools patches instead of a norm after the last block.
    pub use_mean_pooling: bool,
}

impl VisionConfig {
    /// Our encoder of the same size.
    pub fn encoder(&self) -> Result<Vit1Config, ImportError> {
        let relative_position = match (
            self.use_shared_relative_position_bias,
            self.use_relative_position_bias,
        ) {
            (true, false) => RelativePosition::Shared,
            (false, true) => RelativePosition::PerLayer,
            (true, true) => {
                return Err(ImportError::Unsupported("shared and own positions at once"));
            }
            (false, false) => return Err(ImportError::Unsupported("no relative positions")),
        };
        if self.use_absolute_position_embeddings {
            return Err(ImportError::Unsupported("use_absolute_position_embeddings"));
        }
        if self.layer_scale_init_value <= 0.0 {
            return Err(ImportError::Unsupported("layer_scale_init_value of 0"));
        }
        if self.hidden_act != "gelu" {
            return Err(ImportError::Unsupported("hidden_act other than gelu"));
        }
        if self.num_channels != 3 {
            return Err(ImportError::Unsupported("num_channels other than 3"));
        }
        Ok(Vit1Config {
            image_size: self.image_size,
            patch_size: self.patch_size,
            embed_dim: self.hidden_size,
            depth: self.num_hidden_layers,
            n_heads: self.num_attention_heads,
            mlp_ratio: self.intermediate_size as f64 / self.hidden_size as f64,
            norm_eps: self.layer_norm_eps,
            layer_scale: self.layer_scale_init_value,
            relative_position,
            drop_path_prob: self.drop_path_rate,
            attention_drop_prob: self.attention_probs_dropout_prob,
        })
    }
}

/// All tensors of a bare model or a classifier under our names, those of the encoder below
/// `encoder.`.
pub fn import(tensors: Tensors) -> Result<Tensors, ImportError> {
    fused::join(rename(tensors, our_name)?)
}

/// Our name, or the passing name of a part of the fused matrix.
fn our_name(theirs: &str) -> Option<Name> {
    if theirs.ends_with("relative_position_index") {
        return Some(Name::Dropped);
    }
    let name = theirs.strip_prefix("data2vec_vision.").unwrap_or(theirs);
    let ours = if let Some(rest) = name.strip_prefix("encoder.layer.") {
        let (block, rest) = rest.split_once('.')?;
        format!("encoder.blocks.{block}.{}", our_name_in_block(rest)?)
    } else if let Some(rest) = name.strip_prefix("embeddings.patch_embeddings.projection.") {
        format!("encoder.patch_embed.proj.{rest}")
    } else if let Some(rest) = name.strip_prefix("embeddings.") {
        format!("encoder.{rest}")
    } else if let Some(rest) = name.strip_prefix("encoder.relative_position_bias.") {
        format!("encoder.rel_pos_bias.{rest}")
    } else if let Some(rest) = name.strip_prefix("layernorm.") {
        format!("encoder.norm.{rest}")
    } else if let Some(rest) = name.strip_prefix("pooler.layernorm.") {
        format!("fc_norm.{rest}")
    } else {
        format!("head.{}", name.strip_prefix("classifier.")?)
    };
    Some(Name::Ours(ours))
}

fn our_name_in_block(name: &str) -> Option<String> {
    let prefixes = [
        (
            "attention.attention.relative_position_bias.",
            "attn.rel_pos_bias.",
        ),
        ("attention.output.dense.", "attn.proj."),
        ("layernorm_before.", "norm1."),
        ("layernorm_after.", "norm2."),
        ("intermediate.dense.", "mlp.fc1."),
        ("output.dense.", "mlp.fc2."),
    ];
    for (theirs, ours) in prefixes {
        if let Some(rest) = name.strip_prefix(theirs) {
            return Some(format!("{ours}{rest}"));
        }
    }
    let ours = match name {
        "lambda_1" => "gamma_1",
        "lambda_2" => "gamma_2",
        "attention.attention.query.bias" => "attn.q_bias",
        "attention.attention.value.bias" => "attn.v_bias",
        "attention.attention.query.weight" => "attn.qkv.query.weight",
        "attention.attention.key.weight" => "attn.qkv.key.weight",
        "attention.attention.value.weight" => "attn.qkv.value.weight",
        _ => return None,
    };
    Some(ours.to_owned())
}
