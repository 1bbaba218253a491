//! Imports and exports Hugging Face's `Data2VecText…`.

use burn::tensor::TensorData;
use serde::{Deserialize, Serialize};

use super::classes::{Class, Family};
use crate::checkpoint::safetensors::Tensors;
use crate::interop::error::ImportError;
use crate::interop::names::{Name, Names, rename};
use crate::interop::qkv;
use crate::model::{TextConfig, hidden_dim};

/// Keys of a folder's `config.json` that we use. Others are ignored, missing ones are the defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TextFolder {
    /// Number of tokens in the vocabulary.
    pub vocab_size: usize,
    /// Pad token.
    pub pad_token_id: usize,
    /// Rows of the position embedding.
    pub max_position_embeddings: usize,
    /// Number of segment types; data2vec has one.
    pub type_vocab_size: usize,
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
    pub hidden_dropout_prob: f64,
    /// Dropout probability of attention weights.
    pub attention_probs_dropout_prob: f64,
    /// Whether attention is causal; unsupported.
    pub is_decoder: bool,
    /// Whether a language-model head shares its weights with the token embedding.
    pub tie_word_embeddings: bool,
    /// Kind of positions; recent versions have one kind and do not write this key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position_embedding_type: Option<String>,
}

impl Default for TextFolder {
    /// Returns the values of `Data2VecTextConfig()`.
    fn default() -> Self {
        Self {
            vocab_size: 30522,
            pad_token_id: 1,
            max_position_embeddings: 512,
            type_vocab_size: 2,
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            hidden_act: "gelu".to_owned(),
            layer_norm_eps: 1e-12,
            hidden_dropout_prob: 0.1,
            attention_probs_dropout_prob: 0.1,
            is_decoder: false,
            tie_word_embeddings: true,
            position_embedding_type: None,
        }
    }
}

impl TextFolder {
    /// Returns our encoder of the same size.
    pub fn encoder(&self) -> Result<TextConfig, ImportError> {
        if self.hidden_act != "gelu" {
            return Err(ImportError::Unsupported("hidden_act other than gelu"));
        }
        if self.is_decoder {
            return Err(ImportError::Unsupported("is_decoder (causal attention)"));
        }
        if self.type_vocab_size != 1 {
            return Err(ImportError::Unsupported("type_vocab_size other than 1"));
        }
        if !matches!(
            self.position_embedding_type.as_deref(),
            None | Some("absolute")
        ) {
            return Err(ImportError::Unsupported(
                "position_embedding_type other than absolute",
            ));
        }
        let max_tokens = self
            .max_position_embeddings
            .checked_sub(self.pad_token_id.saturating_add(1))
            .ok_or(ImportError::Unsupported(
                "max_position_embeddings not above pad_token_id",
            ))?;
        Ok(TextConfig {
            vocab_size: self.vocab_size,
            pad_token: self.pad_token_id,
            max_tokens,
            alibi: false,
            embed_dim: self.hidden_size,
            depth: self.num_hidden_layers,
            n_heads: self.num_attention_heads,
            mlp_ratio: self.intermediate_size as f64 / self.hidden_size as f64,
            norm_eps: self.layer_norm_eps,
            drop_prob: self.hidden_dropout_prob,
            attention_drop_prob: self.attention_probs_dropout_prob,
        })
    }
}

impl From<&TextConfig> for TextFolder {
    /// Returns the keys for a model of this size.
    fn from(config: &TextConfig) -> Self {
        Self {
            vocab_size: config.vocab_size,
            pad_token_id: config.pad_token,
            max_position_embeddings: config.n_position_rows(),
            type_vocab_size: 1,
            hidden_size: config.embed_dim,
            intermediate_size: hidden_dim(config.embed_dim, config.mlp_ratio),
            num_hidden_layers: config.depth,
            num_attention_heads: config.n_heads,
            hidden_act: "gelu".to_owned(),
            layer_norm_eps: config.norm_eps,
            hidden_dropout_prob: config.drop_prob,
            attention_probs_dropout_prob: config.attention_drop_prob,
            is_decoder: false,
            tie_word_embeddings: true,
            position_embedding_type: None,
        }
    }
}

/// Temporary name of the segment embedding, whose one row is added to every token.
pub(super) const SEGMENT: &str = "encoder.embed.segment";

/// Renames all tensors of a model to ours: the encoder's go below `encoder.`, those of heads below
/// `pooler.`, `sentence.` and `language.`, other heads' below `hugging_face.`.
pub fn import(tensors: Tensors) -> Result<Tensors, ImportError> {
    add_segment(qkv::join(rename(tensors, our_name)?)?)
}

/// Names below `data2vec_text.`, Hugging Face's and ours.
const ENCODER: &Names = &[
    ("embeddings.word_embeddings.weight", "encoder.embed.tokens"),
    (
        "embeddings.position_embeddings.weight",
        "encoder.embed.positions",
    ),
    ("embeddings.token_type_embeddings.weight", SEGMENT),
    ("embeddings.LayerNorm.", "encoder.embed.norm."),
    (
        "encoder.layer.#.attention.self.query.",
        "encoder.blocks.#.attn.qkv.query.",
    ),
    (
        "encoder.layer.#.attention.self.key.",
        "encoder.blocks.#.attn.qkv.key.",
    ),
    (
        "encoder.layer.#.attention.self.value.",
        "encoder.blocks.#.attn.qkv.value.",
    ),
    (
        "encoder.layer.#.attention.output.dense.",
        "encoder.blocks.#.attn.proj.",
    ),
    (
        "encoder.layer.#.attention.output.LayerNorm.",
        "encoder.blocks.#.norm1.",
    ),
    (
        "encoder.layer.#.intermediate.dense.",
        "encoder.blocks.#.mlp.fc1.",
    ),
    ("encoder.layer.#.output.dense.", "encoder.blocks.#.mlp.fc2."),
    (
        "encoder.layer.#.output.LayerNorm.",
        "encoder.blocks.#.norm2.",
    ),
    ("pooler.dense.", "pooler.dense."),
];

pub(super) const FAMILY: Family = Family {
    prefix: "data2vec_text.",
    encoder: ENCODER,
    heads: &[
        ("classifier.dense.", "sentence.pooler.dense."),
        ("classifier.out_proj.", "sentence.out_proj."),
        ("lm_head.dense.", "language.dense."),
        ("lm_head.layer_norm.", "language.norm."),
        ("lm_head.bias", "language.bias"),
    ],
    classes: &[
        Class {
            name: "Data2VecTextModel",
            needs: &[],
            may: &["pooler.dense."],
        },
        Class {
            name: "Data2VecTextForMaskedLM",
            needs: LANGUAGE,
            may: &[],
        },
        Class {
            name: "Data2VecTextForCausalLM",
            needs: LANGUAGE,
            may: &[],
        },
        Class {
            name: "Data2VecTextForSequenceClassification",
            needs: &["sentence.pooler.dense.", "sentence.out_proj."],
            may: &[],
        },
        Class {
            name: "Data2VecTextForTokenClassification",
            needs: &["hugging_face.classifier."],
            may: &[],
        },
        Class {
            name: "Data2VecTextForMultipleChoice",
            needs: &["pooler.dense.", "hugging_face.classifier."],
            may: &[],
        },
        Class {
            name: "Data2VecTextForQuestionAnswering",
            needs: &["hugging_face.qa_outputs."],
            may: &[],
        },
    ],
};

const LANGUAGE: &[&str] = &["language.dense.", "language.norm.", "language.bias"];

/// Redundant tensors: copies of the token embedding and of the bias, and counters.
const REDUNDANT: [&str; 4] = [
    "lm_head.decoder.weight",
    "lm_head.decoder.bias",
    "embeddings.position_ids",
    "embeddings.token_type_ids",
];

fn our_name(theirs: &str) -> Option<Name> {
    let inner = theirs.strip_prefix(FAMILY.prefix).unwrap_or(theirs);
    if REDUNDANT.contains(&inner) {
        return Some(Name::Dropped);
    }
    FAMILY.our_name(theirs)
}

/// Adds the segment embedding, `[1, D]`, to every row of the position embedding: we store none.
fn add_segment(mut tensors: Tensors) -> Result<Tensors, ImportError> {
    let Some(segment) = tensors.remove(SEGMENT) else {
        return Ok(tensors);
    };
    let name = "encoder.embed.positions";
    let Some(positions) = tensors.remove(name) else {
        return Err(ImportError::UnknownName(SEGMENT.to_owned()));
    };
    let dim = positions.shape().to_vec().pop().unwrap_or(0);
    if segment.shape().as_slice() != [1, dim] {
        return Err(ImportError::Unsupported(
            "token_type_embeddings of another shape than [1, hidden_size]",
        ));
    }
    let segment: Vec<f32> = segment.iter().collect();
    let added: Vec<f32> = positions
        .iter::<f32>()
        .zip(segment.iter().cycle())
        .map(|(position, segment)| position + segment)
        .collect();
    let shape = positions.shape().to_vec();
    tensors.insert(name.to_owned(), TensorData::new(added, shape));
    Ok(tensors)
}
