//! Hugging Face's `Data2VecTextModel`, `…ForMaskedLM` and `…ForSequenceClassification`.

use burn::tensor::TensorData;
use serde::Deserialize;

use crate::import::{ImportError, Name, Tensors, fused, rename};
use crate::model::TextConfig;

/// What we need of a folder's `config.json`; it holds more.
#[derive(Debug, Clone, Deserialize)]
pub struct TextFolder {
    /// Tokens of the vocabulary.
    pub vocab_size: usize,
    /// The token that fills up short rows.
    pub pad_token_id: usize,
    /// Rows of the table of positions.
    pub max_position_embeddings: usize,
    /// Kinds of segments; data2vec has one.
    pub type_vocab_size: usize,
    /// Width.
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Blocks.
    pub num_hidden_layers: usize,
    /// Heads.
    pub num_attention_heads: usize,
    /// The activation of the MLP.
    pub hidden_act: String,
    /// Added to the variance by the norms.
    pub layer_norm_eps: f64,
    /// Probability to drop what a branch adds.
    pub hidden_dropout_prob: f64,
    /// Probability to drop an attention weight.
    pub attention_probs_dropout_prob: f64,
    /// The kind of positions; recent versions have one and do not write it.
    #[serde(default)]
    pub position_embedding_type: Option<String>,
}

impl TextFolder {
    /// Our encoder of the same size.
    pub fn encoder(&self) -> Result<TextConfig, ImportError> {
        if self.hidden_act != "gelu" {
            return Err(ImportError::Unsupported("hidden_act other than gelu"));
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
            .checked_sub(self.pad_token_id + 1)
            .ok_or(ImportError::Unsupported(
                "max_position_embeddings not above pad_token_id",
            ))?;
        Ok(TextConfig {
            vocab_size: self.vocab_size,
            pad_token: self.pad_token_id,
            max_tokens,
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

/// The passing name of the one row that is added to every token.
const SEGMENT: &str = "encoder.embed.segment";

/// All tensors of a model under our names: the encoder's below `encoder.`, those of heads below
/// `pooler.`, `sentence.` and `language.`.
pub fn import(tensors: Tensors) -> Result<Tensors, ImportError> {
    add_segment(fused::join(rename(tensors, our_name)?)?)
}

/// Our name, or the passing name of a part of the fused matrix.
fn our_name(theirs: &str) -> Option<Name> {
    let name = theirs.strip_prefix("data2vec_text.").unwrap_or(theirs);
    let ours = if let Some(rest) = name.strip_prefix("encoder.layer.") {
        let (block, rest) = rest.split_once('.')?;
        return Some(Name::Ours(format!(
            "encoder.blocks.{block}.{}",
            our_name_in_block(rest)?
        )));
    } else {
        match name {
            "embeddings.word_embeddings.weight" => "encoder.embed.tokens",
            "embeddings.position_embeddings.weight" => "encoder.embed.positions",
            "embeddings.token_type_embeddings.weight" => SEGMENT,
            "embeddings.LayerNorm.weight" => "encoder.embed.norm.weight",
            "embeddings.LayerNorm.bias" => "encoder.embed.norm.bias",
            "pooler.dense.weight" => "pooler.dense.weight",
            "pooler.dense.bias" => "pooler.dense.bias",
            "classifier.dense.weight" => "sentence.pooler.dense.weight",
            "classifier.dense.bias" => "sentence.pooler.dense.bias",
            "classifier.out_proj.weight" => "sentence.out_proj.weight",
            "classifier.out_proj.bias" => "sentence.out_proj.bias",
            "lm_head.dense.weight" => "language.dense.weight",
            "lm_head.dense.bias" => "language.dense.bias",
            "lm_head.layer_norm.weight" => "language.norm.weight",
            "lm_head.layer_norm.bias" => "language.norm.bias",
            "lm_head.bias" => "language.bias",
            // Copies: of the table of tokens, of the bias, and counters.
            "lm_head.decoder.weight"
            | "lm_head.decoder.bias"
            | "embeddings.position_ids"
            | "embeddings.token_type_ids" => return Some(Name::Dropped),
            _ => return None,
        }
    };
    Some(Name::Ours(ours.to_owned()))
}

fn our_name_in_block(name: &str) -> Option<String> {
    let prefixes = [
        ("attention.self.query.", "attn.qkv.query."),
        ("attention.self.key.", "attn.qkv.key."),
        ("attention.self.value.", "attn.qkv.value."),
        ("attention.output.dense.", "attn.proj."),
        ("attention.output.LayerNorm.", "norm1."),
        ("intermediate.dense.", "mlp.fc1."),
        ("output.dense.", "mlp.fc2."),
        ("output.LayerNorm.", "norm2."),
    ];
    prefixes
        .iter()
        .find_map(|(theirs, ours)| Some(format!("{ours}{}", name.strip_prefix(theirs)?)))
}

/// Adds the one segment's row, `[1, D]`, to every position's: we store none.
fn add_segment(mut tensors: Tensors) -> Result<Tensors, ImportError> {
    let Some(segment) = tensors.remove(SEGMENT) else {
        return Ok(tensors);
    };
    let name = "encoder.embed.positions";
    let Some(positions) = tensors.remove(name) else {
        return Err(ImportError::UnknownName(SEGMENT.to_owned()));
    };
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
