//! data2vec 1.0 as fairseq stores it: `data2vec_audio` and `data2vec_text`.

use super::{ImportError, Name, Tensors, fused, rename};

/// Where the sentence encoder lies within the text model.
const TEXT: &str = "encoder.sentence_encoder.";

/// All tensors of a student under our names; the head that the released text model has in the
/// place of its own below `language.`, as from Hugging Face's folders.
pub fn student(tensors: Tensors) -> Result<Tensors, ImportError> {
    let is_text = tensors.keys().any(|name| name.starts_with(TEXT));
    let our_name = if is_text { text } else { audio };
    fused::join(rename(tensors, our_name)?)
}

/// All tensors of a teacher, as they are named within `_ema` (audio) or `encoder._ema` (text).
pub fn teacher(tensors: Tensors) -> Result<Tensors, ImportError> {
    let is_text = tensors.contains_key("embed_tokens.weight");
    let our_name = if is_text { text } else { audio };
    let prefix = if is_text { TEXT } else { "encoder." };
    fused::join(rename(tensors, |theirs| {
        our_name(&format!("{prefix}{theirs}"))
    })?)
}

fn audio(theirs: &str) -> Option<Name> {
    let ours = if let Some(rest) = theirs.strip_prefix("feature_extractor.conv_layers.") {
        format!("encoder.local.layers.{}", wave_layer(rest)?)
    } else if let Some(rest) = theirs.strip_prefix("layer_norm.") {
        format!("encoder.local.norm.{rest}")
    } else if let Some(rest) = theirs.strip_prefix("post_extract_proj.") {
        format!("encoder.local.proj.{rest}")
    } else if theirs == "mask_emb" {
        "encoder.mask_emb".to_owned()
    } else if let Some(rest) = theirs.strip_prefix("encoder.pos_conv.") {
        let (layer, rest) = rest.split_once(".0.")?;
        format!("encoder.pos_conv.{layer}.{rest}")
    } else if let Some(rest) = theirs.strip_prefix("encoder.layer_norm.") {
        format!("encoder.context.norm.{rest}")
    } else if let Some(rest) = theirs.strip_prefix("encoder.layers.") {
        block(rest)?
    } else {
        let rest = theirs.strip_prefix("final_proj.")?;
        // The released models have a list of one map here.
        format!("lm_head.{}", rest.strip_prefix("0.").unwrap_or(rest))
    };
    Some(Name::Ours(ours))
}

fn text(theirs: &str) -> Option<Name> {
    let ours = if let Some(name) = theirs.strip_prefix(TEXT) {
        match name {
            "embed_tokens.weight" => "encoder.embed.tokens".to_owned(),
            "embed_positions.weight" => "encoder.embed.positions".to_owned(),
            "version" => return Some(Name::Dropped),
            _ => match name.strip_prefix("layernorm_embedding.") {
                Some(rest) => format!("encoder.embed.norm.{rest}"),
                None => block(name.strip_prefix("layers.")?)?,
            },
        }
    } else if let Some(name) = theirs.strip_prefix("encoder.lm_head.") {
        // The released model has this in the place of the present code's head.
        match name {
            // A copy of the table of tokens.
            "weight" => return Some(Name::Dropped),
            "bias" => "language.bias".to_owned(),
            _ => match name.strip_prefix("layer_norm.") {
                Some(rest) => format!("language.norm.{rest}"),
                None => format!("language.dense.{}", name.strip_prefix("dense.")?),
            },
        }
    } else {
        let rest = theirs.strip_prefix("encoder.regression_head.")?;
        match rest.split_once('.')? {
            ("0", rest) => format!("lm_head.fc1.{rest}"),
            ("2", rest) => format!("lm_head.fc2.{rest}"),
            _ => return None,
        }
    };
    Some(Name::Ours(ours))
}

/// A name within a convolution over the wave: its weight, or its norm's gain and bias.
pub(super) fn wave_layer(name: &str) -> Option<String> {
    let (layer, rest) = name.split_once('.')?;
    match rest {
        "0.weight" => Some(format!("{layer}.conv.weight")),
        _ => Some(format!("{layer}.norm.{}", rest.strip_prefix("2.1.")?)),
    }
}

/// A name within a block of fairseq's transformer.
fn block(name: &str) -> Option<String> {
    let (block, name) = name.split_once('.')?;
    let prefixes = [
        ("self_attn.q_proj.", "attn.qkv.query."),
        ("self_attn.k_proj.", "attn.qkv.key."),
        ("self_attn.v_proj.", "attn.qkv.value."),
        ("self_attn.out_proj.", "attn.proj."),
        ("self_attn_layer_norm.", "norm1."),
        ("fc1.", "mlp.fc1."),
        ("fc2.", "mlp.fc2."),
        ("final_layer_norm.", "norm2."),
    ];
    let ours = prefixes
        .iter()
        .find_map(|(theirs, ours)| Some(format!("{ours}{}", name.strip_prefix(theirs)?)))?;
    Some(format!("encoder.blocks.{block}.{ours}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(name: &str) -> Name {
        Name::Ours(name.to_owned())
    }

    #[test]
    fn names_of_released_and_present_code_are_known() {
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
    fn unknown_names_are_refused() {
        assert_eq!(audio("encoder.layers.0.self_attn.q_proj_weight"), None);
        assert_eq!(audio("quantizer.vars"), None);
        assert_eq!(text("encoder.lm_head.decoder.weight"), None);
        assert_eq!(text("encoder.regression_head.1.weight"), None);
    }
}
