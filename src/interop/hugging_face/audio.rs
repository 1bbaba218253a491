//! Imports and exports Hugging Face's `Data2VecAudio…`.

use serde::{Deserialize, Serialize};

use super::classes::{Class, Family};
use crate::checkpoint::safetensors::Tensors;
use crate::interop::error::ImportError;
use crate::interop::names::{Names, rename};
use crate::interop::qkv;
use crate::model::{AudioConfig, hidden_dim};

/// Keys of a folder's `config.json` that we use. Others are ignored, missing ones are the defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AudioFolder {
    /// Channels of the convolutions over the waveform, one per layer.
    pub conv_dim: Vec<usize>,
    /// Kernel sizes of these convolutions.
    pub conv_kernel: Vec<usize>,
    /// Strides of these convolutions.
    pub conv_stride: Vec<usize>,
    /// Whether these convolutions have biases; unsupported.
    pub conv_bias: bool,
    /// Activation after these convolutions.
    pub feat_extract_activation: String,
    /// Number of positional convolutions.
    pub num_conv_pos_embeddings: usize,
    /// Kernel size of the positional convolutions.
    pub conv_pos_kernel_size: usize,
    /// Groups of the positional convolutions.
    pub num_conv_pos_embedding_groups: usize,
    /// Embedding dimension.
    pub hidden_size: usize,
    /// Hidden dimension of the MLP.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Attention heads per block.
    pub num_attention_heads: usize,
    /// Activation of the MLP.
    pub hidden_act: String,
    /// Epsilon of the layer norms.
    pub layer_norm_eps: f64,
    /// Dropout probability of a block's branches.
    pub hidden_dropout: f64,
    /// Dropout probability of attention weights.
    pub attention_dropout: f64,
    /// Probability to skip a block.
    pub layerdrop: f64,
    /// Convolutions after the encoder; unsupported, as data2vec's models have none.
    pub add_adapter: bool,
}

impl Default for AudioFolder {
    /// Returns the values of `Data2VecAudioConfig()`.
    fn default() -> Self {
        Self {
            conv_dim: vec![512; 7],
            conv_kernel: vec![10, 3, 3, 3, 3, 2, 2],
            conv_stride: vec![5, 2, 2, 2, 2, 2, 2],
            conv_bias: false,
            feat_extract_activation: "gelu".to_owned(),
            num_conv_pos_embeddings: 5,
            conv_pos_kernel_size: 19,
            num_conv_pos_embedding_groups: 16,
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            hidden_act: "gelu".to_owned(),
            layer_norm_eps: 1e-5,
            hidden_dropout: 0.1,
            attention_dropout: 0.1,
            layerdrop: 0.1,
            add_adapter: false,
        }
    }
}

impl AudioFolder {
    /// Returns our encoder of the same size.
    pub fn encoder(&self) -> Result<AudioConfig, ImportError> {
        let Some(&conv_dim) = self.conv_dim.first() else {
            return Err(ImportError::Unsupported("empty conv_dim"));
        };
        let n_layers = self.conv_dim.len();
        if self.conv_kernel.len() != n_layers || self.conv_stride.len() != n_layers {
            return Err(ImportError::Unsupported(
                "conv_kernel or conv_stride of another length than conv_dim",
            ));
        }
        if self.conv_dim.iter().any(|&dim| dim != conv_dim) {
            return Err(ImportError::Unsupported("conv_dim with unequal entries"));
        }
        if self.conv_bias {
            return Err(ImportError::Unsupported("conv_bias"));
        }
        if self.hidden_act != "gelu" || self.feat_extract_activation != "gelu" {
            return Err(ImportError::Unsupported("an activation other than gelu"));
        }
        if self.add_adapter {
            return Err(ImportError::Unsupported("add_adapter"));
        }
        let layers = self.conv_kernel.iter().zip(&self.conv_stride);
        Ok(AudioConfig {
            conv_dim,
            conv_layers: layers.map(|(&kernel, &stride)| [kernel, stride]).collect(),
            filter_bank: false,
            embed_dim: self.hidden_size,
            pos_conv_depth: self.num_conv_pos_embeddings,
            pos_conv_kernel: self.conv_pos_kernel_size,
            pos_conv_groups: self.num_conv_pos_embedding_groups,
            clear_padding: true,
            shared_pos_conv: true,
            alibi: false,
            prenet_depth: 0,
            depth: self.num_hidden_layers,
            n_heads: self.num_attention_heads,
            mlp_ratio: self.intermediate_size as f64 / self.hidden_size as f64,
            norm_eps: self.layer_norm_eps,
            drop_prob: self.hidden_dropout,
            attention_drop_prob: self.attention_dropout,
            layer_drop_prob: self.layerdrop,
        })
    }
}

impl From<&AudioConfig> for AudioFolder {
    /// Returns the keys for a model of this size.
    fn from(config: &AudioConfig) -> Self {
        let layers = &config.conv_layers;
        Self {
            conv_dim: vec![config.conv_dim; layers.len()],
            conv_kernel: layers.iter().map(|layer| layer[0]).collect(),
            conv_stride: layers.iter().map(|layer| layer[1]).collect(),
            conv_bias: false,
            feat_extract_activation: "gelu".to_owned(),
            num_conv_pos_embeddings: config.pos_conv_depth,
            conv_pos_kernel_size: config.pos_conv_kernel,
            num_conv_pos_embedding_groups: config.pos_conv_groups,
            hidden_size: config.embed_dim,
            intermediate_size: hidden_dim(config.embed_dim, config.mlp_ratio),
            num_hidden_layers: config.depth,
            num_attention_heads: config.n_heads,
            hidden_act: "gelu".to_owned(),
            layer_norm_eps: config.norm_eps,
            hidden_dropout: config.drop_prob,
            attention_dropout: config.attention_drop_prob,
            layerdrop: config.layer_drop_prob,
            add_adapter: false,
        }
    }
}

/// Renames all tensors of a model to ours: the encoder's go below `encoder.`, a CTC head's below
/// `ctc.`, other heads' below `hugging_face.`.
pub fn import(tensors: Tensors) -> Result<Tensors, ImportError> {
    qkv::join(rename(tensors, |theirs| FAMILY.our_name(theirs))?)
}

/// Names below `data2vec_audio.`, Hugging Face's and ours.
const ENCODER: &Names = &[
    (
        "feature_extractor.conv_layers.#.conv.weight",
        "encoder.local.layers.#.conv.weight",
    ),
    (
        "feature_extractor.conv_layers.#.layer_norm.",
        "encoder.local.layers.#.norm.",
    ),
    ("feature_projection.layer_norm.", "encoder.local.norm."),
    ("feature_projection.projection.", "encoder.local.proj."),
    ("masked_spec_embed", "encoder.mask_emb"),
    (
        "encoder.pos_conv_embed.layers.#.conv.",
        "encoder.pos_conv.#.",
    ),
    ("encoder.layer_norm.", "encoder.context.norm."),
    (
        "encoder.layers.#.attention.q_proj.",
        "encoder.blocks.#.attn.qkv.query.",
    ),
    (
        "encoder.layers.#.attention.k_proj.",
        "encoder.blocks.#.attn.qkv.key.",
    ),
    (
        "encoder.layers.#.attention.v_proj.",
        "encoder.blocks.#.attn.qkv.value.",
    ),
    (
        "encoder.layers.#.attention.out_proj.",
        "encoder.blocks.#.attn.proj.",
    ),
    ("encoder.layers.#.layer_norm.", "encoder.blocks.#.norm1."),
    (
        "encoder.layers.#.feed_forward.intermediate_dense.",
        "encoder.blocks.#.mlp.fc1.",
    ),
    (
        "encoder.layers.#.feed_forward.output_dense.",
        "encoder.blocks.#.mlp.fc2.",
    ),
    (
        "encoder.layers.#.final_layer_norm.",
        "encoder.blocks.#.norm2.",
    ),
];

pub(super) const FAMILY: Family = Family {
    prefix: "data2vec_audio.",
    encoder: ENCODER,
    heads: &[("lm_head.", "ctc.")],
    classes: &[
        Class {
            name: "Data2VecAudioModel",
            needs: &[],
            may: &[],
        },
        Class {
            name: "Data2VecAudioForCTC",
            needs: &["ctc."],
            may: &[],
        },
        Class {
            name: "Data2VecAudioForAudioFrameClassification",
            needs: &["hugging_face.classifier."],
            may: &["hugging_face.layer_weights"],
        },
        Class {
            name: "Data2VecAudioForSequenceClassification",
            needs: &["hugging_face.projector.", "hugging_face.classifier."],
            may: &["hugging_face.layer_weights"],
        },
        Class {
            name: "Data2VecAudioForXVector",
            needs: &[
                "hugging_face.projector.",
                "hugging_face.tdnn.#.kernel.",
                "hugging_face.feature_extractor.",
                "hugging_face.classifier.",
                "hugging_face.objective.",
            ],
            may: &["hugging_face.layer_weights"],
        },
    ],
};
