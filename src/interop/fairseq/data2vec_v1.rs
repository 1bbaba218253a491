//! Parameter names of fairseq's data2vec 1.0: `data2vec_audio` and `data2vec_text`.

use crate::checkpoint::safetensors::Tensors;
use crate::interop::error::ImportError;
use crate::interop::names::{self, Name, Names, rename};
use crate::interop::qkv;

/// Prefix of the sentence encoder in the text model.
const TEXT: &str = "encoder.sentence_encoder.";

/// Renames all tensors of a student to our names; the language-model head of the released text
/// model goes below `language.`, as in Hugging Face's folders.
pub fn student(tensors: Tensors) -> Result<Tensors, ImportError> {
    let is_text = tensors.keys().any(|name| name.starts_with(TEXT));
    let our_name = if is_text { text } else { audio };
    qkv::join(rename(tensors, our_name)?)
}

/// Renames all tensors of a teacher, which fairseq stores within `_ema` (audio) or `encoder._ema`
/// (text).
pub fn teacher(tensors: Tensors) -> Result<Tensors, ImportError> {
    let is_text = tensors.contains_key("embed_tokens.weight");
    let our_name = if is_text { text } else { audio };
    let prefix = if is_text { TEXT } else { "encoder." };
    qkv::join(rename(tensors, |theirs| {
        our_name(&format!("{prefix}{theirs}"))
    })?)
}

const AUDIO: &Names = &[
    (
        "feature_extractor.conv_layers.#.0.weight",
        "encoder.local.layers.#.conv.weight",
    ),
    (
        "feature_extractor.conv_layers.#.2.1.",
        "encoder.local.layers.#.norm.",
    ),
    ("layer_norm.", "encoder.local.norm."),
    ("post_extract_proj.", "encoder.local.proj."),
    ("mask_emb", "encoder.mask_emb"),
    ("encoder.pos_conv.#.0.", "encoder.pos_conv.#."),
    ("encoder.layer_norm.", "encoder.context.norm."),
    // The released models have a list of one linear layer here.
    ("final_proj.0.", "lm_head."),
    ("final_proj.", "lm_head."),
];

const SENTENCE_ENCODER: &Names = &[
    ("embed_tokens.weight", "encoder.embed.tokens"),
    ("embed_positions.weight", "encoder.embed.positions"),
    ("layernorm_embedding.", "encoder.embed.norm."),
];

const TEXT_HEADS: &Names = &[
    ("encoder.regression_head.0.", "lm_head.fc1."),
    ("encoder.regression_head.2.", "lm_head.fc2."),
    // The released model has these in place of the head in today's code.
    ("encoder.lm_head.bias", "language.bias"),
    ("encoder.lm_head.layer_norm.", "language.norm."),
    ("encoder.lm_head.dense.", "language.dense."),
];

/// Names within fairseq's transformer blocks.
const BLOCKS: &Names = &[
    (
        "layers.#.self_attn.q_proj.",
        "encoder.blocks.#.attn.qkv.query.",
    ),
    (
        "layers.#.self_attn.k_proj.",
        "encoder.blocks.#.attn.qkv.key.",
    ),
    (
        "layers.#.self_attn.v_proj.",
        "encoder.blocks.#.attn.qkv.value.",
    ),
    (
        "layers.#.self_attn.out_proj.",
        "encoder.blocks.#.attn.proj.",
    ),
    ("layers.#.self_attn_layer_norm.", "encoder.blocks.#.norm1."),
    ("layers.#.fc1.", "encoder.blocks.#.mlp.fc1."),
    ("layers.#.fc2.", "encoder.blocks.#.mlp.fc2."),
    ("layers.#.final_layer_norm.", "encoder.blocks.#.norm2."),
];

fn audio(theirs: &str) -> Option<Name> {
    let ours = match theirs.strip_prefix("encoder.layers.") {
        Some(rest) => names::ours(BLOCKS, &format!("layers.{rest}")),
        None => names::ours(AUDIO, theirs),
    };
    ours.map(Name::Ours)
}

fn text(theirs: &str) -> Option<Name> {
    let ours = match theirs.strip_prefix(TEXT) {
        Some("version") => return Some(Name::Dropped),
        Some(inner) => names::ours(SENTENCE_ENCODER, inner).or_else(|| names::ours(BLOCKS, inner)),
        // A copy of the table of tokens.
        None if theirs == "encoder.lm_head.weight" => return Some(Name::Dropped),
        None => names::ours(TEXT_HEADS, theirs),
    };
    ours.map(Name::Ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(name: &str) -> Name {
        Name::Ours(name.to_owned())
    }

    #[test]
    fn names_of_released_and_current_code_are_known() {
        assert_eq!(audio("final_proj.0.bias"), Some(ours("lm_head.bias")));
        assert_eq!(audio("final_proj.bias"), Some(ours("lm_head.bias")));
        assert_eq!(
            text("encoder.sentence_encoder.version"),
            Some(Name::Dropped)
        );
        assert_eq!(text("encoder.lm_head.weight"), Some(Name::Dropped));
        assert_eq!(
            text("encoder.lm_head.layer_norm.bias"),
            Some(ours("language.norm.bias"))
        );
    }

    #[test]
    fn unknown_names_are_rejected() {
        assert_eq!(audio("encoder.layers.0.self_attn.q_proj_weight"), None);
        assert_eq!(audio("quantizer.vars"), None);
        assert_eq!(text("encoder.lm_head.decoder.weight"), None);
        assert_eq!(text("encoder.regression_head.1.weight"), None);
    }
}
