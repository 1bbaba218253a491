//! Imports and exports Hugging Face's `Data2VecVision…`.

use serde::{Deserialize, Serialize};

use super::classes::{Class, Family};
use crate::checkpoint::safetensors::Tensors;
use crate::interop::error::ImportError;
use crate::interop::names::{Name, Names, rename};
use crate::interop::qkv;
use crate::model::{BeitConfig, RelativePosition, hidden_dim};

/// Keys of a folder's `config.json` that we use. Others are ignored, missing ones are the defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "the file's own keys")]
pub struct VisionFolder {
    /// Embedding dimension.
    pub hidden_size: usize,
    /// Hidden dimension of the MLP.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Attention heads per block.
    pub num_attention_heads: usize,
    /// Side of an image, in pixels.
    pub image_size: usize,
    /// Side of a patch, in pixels.
    pub patch_size: usize,
    /// Colour channels; 3.
    pub num_channels: usize,
    /// Epsilon of the layer norms.
    pub layer_norm_eps: f64,
    /// Initial LayerScale; 0 means none, which is unsupported.
    pub layer_scale_init_value: f64,
    /// DropPath probability of the last block.
    pub drop_path_rate: f64,
    /// Dropout probability of attention weights.
    pub attention_probs_dropout_prob: f64,
    /// Activation of the MLP.
    pub hidden_act: String,
    /// Whether there are learned absolute positions; unsupported.
    pub use_absolute_position_embeddings: bool,
    /// Whether each block has its own relative-position table.
    pub use_relative_position_bias: bool,
    /// Whether all blocks share one relative-position table.
    pub use_shared_relative_position_bias: bool,
    /// Whether patches are pooled instead of normalised after the last block.
    pub use_mean_pooling: bool,
}

impl Default for VisionFolder {
    /// Returns the values of `Data2VecVisionConfig()`.
    fn default() -> Self {
        Self {
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            image_size: 224,
            patch_size: 16,
            num_channels: 3,
            layer_norm_eps: 1e-12,
            layer_scale_init_value: 0.1,
            drop_path_rate: 0.1,
            attention_probs_dropout_prob: 0.0,
            hidden_act: "gelu".to_owned(),
            use_absolute_position_embeddings: false,
            use_relative_position_bias: false,
            use_shared_relative_position_bias: false,
            use_mean_pooling: true,
        }
    }
}

impl VisionFolder {
    /// Returns our encoder of the same size.
    pub fn encoder(&self) -> Result<BeitConfig, ImportError> {
        let relative_position = match (
            self.use_shared_relative_position_bias,
            self.use_relative_position_bias,
        ) {
            (true, false) => RelativePosition::Shared,
            (false, true) => RelativePosition::PerLayer,
            (true, true) => {
                return Err(ImportError::Unsupported(
                    "shared and per-block relative positions together",
                ));
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
        Ok(BeitConfig {
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

impl From<&BeitConfig> for VisionFolder {
    /// Returns the keys for a model of this size that ends with a norm.
    fn from(config: &BeitConfig) -> Self {
        let shared = config.relative_position == RelativePosition::Shared;
        Self {
            hidden_size: config.embed_dim,
            intermediate_size: hidden_dim(config.embed_dim, config.mlp_ratio),
            num_hidden_layers: config.depth,
            num_attention_heads: config.n_heads,
            image_size: config.image_size,
            patch_size: config.patch_size,
            num_channels: 3,
            layer_norm_eps: config.norm_eps,
            layer_scale_init_value: config.layer_scale,
            drop_path_rate: config.drop_path_prob,
            attention_probs_dropout_prob: config.attention_drop_prob,
            hidden_act: "gelu".to_owned(),
            use_absolute_position_embeddings: false,
            use_relative_position_bias: !shared,
            use_shared_relative_position_bias: shared,
            use_mean_pooling: false,
        }
    }
}

/// Renames all tensors of a model to ours: the encoder's go below `encoder.`, a classifier's below
/// `head.`, other heads' below `hugging_face.`.
pub fn import(tensors: Tensors) -> Result<Tensors, ImportError> {
    qkv::join(rename(tensors, our_name)?)
}

/// Names below `data2vec_vision.`, Hugging Face's and ours.
const ENCODER: &Names = &[
    (
        "embeddings.patch_embeddings.projection.",
        "encoder.patch_embed.proj.",
    ),
    ("embeddings.cls_token", "encoder.cls_token"),
    ("embeddings.mask_token", "encoder.mask_token"),
    ("encoder.relative_position_bias.", "encoder.rel_pos_bias."),
    (
        "encoder.layer.#.attention.attention.relative_position_bias.",
        "encoder.blocks.#.attn.rel_pos_bias.",
    ),
    (
        "encoder.layer.#.attention.attention.query.weight",
        "encoder.blocks.#.attn.qkv.query.weight",
    ),
    (
        "encoder.layer.#.attention.attention.key.weight",
        "encoder.blocks.#.attn.qkv.key.weight",
    ),
    (
        "encoder.layer.#.attention.attention.value.weight",
        "encoder.blocks.#.attn.qkv.value.weight",
    ),
    (
        "encoder.layer.#.attention.attention.query.bias",
        "encoder.blocks.#.attn.q_bias",
    ),
    (
        "encoder.layer.#.attention.attention.value.bias",
        "encoder.blocks.#.attn.v_bias",
    ),
    (
        "encoder.layer.#.attention.output.dense.",
        "encoder.blocks.#.attn.proj.",
    ),
    (
        "encoder.layer.#.layernorm_before.",
        "encoder.blocks.#.norm1.",
    ),
    (
        "encoder.layer.#.layernorm_after.",
        "encoder.blocks.#.norm2.",
    ),
    (
        "encoder.layer.#.intermediate.dense.",
        "encoder.blocks.#.mlp.fc1.",
    ),
    ("encoder.layer.#.output.dense.", "encoder.blocks.#.mlp.fc2."),
    ("encoder.layer.#.lambda_1", "encoder.blocks.#.gamma_1"),
    ("encoder.layer.#.lambda_2", "encoder.blocks.#.gamma_2"),
    ("layernorm.", "encoder.norm."),
    ("pooler.layernorm.", "fc_norm."),
];

pub(super) const FAMILY: Family = Family {
    prefix: "data2vec_vision.",
    encoder: ENCODER,
    heads: &[("classifier.", "head.")],
    classes: &[
        Class {
            name: "Data2VecVisionModel",
            needs: &[],
            may: &["fc_norm."],
        },
        Class {
            name: "Data2VecVisionForImageClassification",
            needs: &["head."],
            may: &["fc_norm."],
        },
        Class {
            name: "Data2VecVisionForSemanticSegmentation",
            needs: &[
                "hugging_face.fpn1.#.",
                "hugging_face.fpn2.#.",
                "hugging_face.decode_head.classifier.",
            ],
            may: SEGMENTATION,
        },
    ],
};

/// Convolutions and their batch norms; `transformers` 4 and 5 name them differently.
const SEGMENTATION: &[&str] = &[
    "hugging_face.auxiliary_head.classifier.",
    "hugging_face.decode_head.psp_modules.blocks.#.conv.convolution.",
    "hugging_face.decode_head.psp_modules.blocks.#.conv.normalization.",
    "hugging_face.decode_head.psp_bottleneck.convolution.",
    "hugging_face.decode_head.psp_bottleneck.normalization.",
    "hugging_face.decode_head.lateral_convs.#.convolution.",
    "hugging_face.decode_head.lateral_convs.#.normalization.",
    "hugging_face.decode_head.fpn_convs.#.convolution.",
    "hugging_face.decode_head.fpn_convs.#.normalization.",
    "hugging_face.decode_head.fpn_bottleneck.convolution.",
    "hugging_face.decode_head.fpn_bottleneck.normalization.",
    "hugging_face.auxiliary_head.convs.#.convolution.",
    "hugging_face.auxiliary_head.convs.#.normalization.",
    "hugging_face.auxiliary_head.conv_cat.convolution.",
    "hugging_face.auxiliary_head.conv_cat.normalization.",
    "hugging_face.decode_head.bottleneck.conv.",
    "hugging_face.decode_head.bottleneck.bn.",
    "hugging_face.decode_head.lateral_convs.#.conv.",
    "hugging_face.decode_head.lateral_convs.#.bn.",
    "hugging_face.decode_head.fpn_convs.#.conv.",
    "hugging_face.decode_head.fpn_convs.#.bn.",
    "hugging_face.decode_head.fpn_bottleneck.conv.",
    "hugging_face.decode_head.fpn_bottleneck.bn.",
    "hugging_face.decode_head.psp_modules.#.1.conv.",
    "hugging_face.decode_head.psp_modules.#.1.bn.",
    "hugging_face.auxiliary_head.convs.#.conv.",
    "hugging_face.auxiliary_head.convs.#.bn.",
    "hugging_face.auxiliary_head.conv_cat.conv.",
    "hugging_face.auxiliary_head.conv_cat.bn.",
];

fn our_name(theirs: &str) -> Option<Name> {
    if theirs.ends_with("relative_position_index") {
        return Some(Name::Dropped);
    }
    FAMILY.our_name(theirs)
}
