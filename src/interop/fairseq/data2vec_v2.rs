//! Parameter names of fairseq's data2vec 2.0: `data2vec_multi`.

use burn::tensor::TensorData;

use crate::checkpoint::safetensors::Tensors;
use crate::interop::error::ImportError;
use crate::interop::names::{self, Name, Names, rename};

/// Renames all tensors of a student to our names.
pub fn student(tensors: Tensors) -> Result<Tensors, ImportError> {
    Ok(flat_scales(rename(tensors, our_name)?))
}

/// Renames all tensors of a teacher, which fairseq stores within `_ema`; for text their names are
/// relative to `blocks`.
pub fn teacher(tensors: Tensors) -> Result<Tensors, ImportError> {
    let is_relative = |name: &str| name.starts_with(|first: char| first.is_ascii_digit());
    let renamed = rename(tensors, |theirs| {
        if is_relative(theirs) {
            our_name(&format!("blocks.{theirs}"))
        } else {
            our_name(theirs)
        }
    })?;
    Ok(flat_scales(renamed))
}

/// Names below every `modality_encoders.NAME`, fairseq's and ours.
const COMMON: &Names = &[
    ("context_encoder.", "encoder.context."),
    // A convolution is the first module of its block.
    ("decoder.blocks.#.0.", "decoder.blocks.#."),
    ("decoder.proj.weight", "decoder.proj.weight"),
    ("decoder.proj.bias", "decoder.proj.bias"),
    ("decoder.proj.0.", "decoder.proj.fc1."),
    ("decoder.proj.2.", "decoder.proj.fc2."),
];

const IMAGE: &Names = &[
    ("extra_tokens", "encoder.cls_token"),
    ("local_encoder.", "encoder.patch_embed."),
];

const AUDIO: &Names = &[
    (
        "local_encoder.conv_layers.#.0.weight",
        "encoder.local.layers.#.conv.weight",
    ),
    (
        "local_encoder.conv_layers.#.2.1.",
        "encoder.local.layers.#.norm.",
    ),
    ("project_features.1.", "encoder.local.norm."),
    ("project_features.2.", "encoder.local.proj."),
    // Their first module only transposes.
    ("relative_positional_encoder.+.0.", "encoder.pos_conv.#."),
    ("alibi_scale", "encoder.alibi_scale"),
];

const TEXT: &Names = &[
    ("local_encoder.embed_tokens.weight", "encoder.embed.tokens"),
    (
        "local_encoder.embed_positions.weight",
        "encoder.embed.positions",
    ),
    ("local_encoder.layernorm_embedding.", "encoder.embed.norm."),
];

const BLOCKS: &Names = &[("blocks.", "encoder.blocks.")];

/// Returns the table of a modality by fairseq's name of it.
fn table(modality: &str) -> Option<&'static Names> {
    match modality {
        "IMAGE" => Some(IMAGE),
        "AUDIO" => Some(AUDIO),
        "TEXT" => Some(TEXT),
        _ => None,
    }
}

fn our_name(theirs: &str) -> Option<Name> {
    let ours = match theirs.strip_prefix("modality_encoders.") {
        None => names::ours(BLOCKS, theirs),
        Some("IMAGE.fixed_positional_encoder.positions") => return Some(Name::Dropped),
        Some(rest) => {
            let (modality, inner) = rest.split_once('.')?;
            names::ours(table(modality)?, inner).or_else(|| names::ours(COMMON, inner))
        }
    };
    ours.map(Name::Ours)
}

/// Returns fairseq's name of our parameter in a model of `modality`: `image`, `audio` or `text`.
pub fn their_name(ours: &str, modality: &str) -> Option<String> {
    let modality = modality.to_uppercase();
    names::theirs(BLOCKS, ours).or_else(|| {
        let own = names::theirs(table(&modality)?, ours);
        let inner = own.or_else(|| names::theirs(COMMON, ours))?;
        Some(format!("modality_encoders.{modality}.{inner}"))
    })
}

/// Reshapes ALiBi scales, `[1, 1, H, 1, 1]` (older files: one dimension fewer), to `[H]`.
fn flat_scales(mut tensors: Tensors) -> Tensors {
    if let Some(scale) = tensors.get_mut("encoder.alibi_scale") {
        let values: Vec<f32> = scale.iter().collect();
        let n_heads = values.len();
        *scale = TensorData::new(values, [n_heads]);
    }
    tensors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_names_are_rejected() {
        assert_eq!(our_name("modality_encoders.AUDIO.extra_tokens"), None);
        assert_eq!(our_name("modality_encoders.VIDEO.extra_tokens"), None);
        assert_eq!(our_name("modality_encoders.IMAGE.decoder.mask"), None);
        assert_eq!(our_name("modality_encoders.TEXT.decoder.proj.1.bias"), None);
        assert_eq!(
            our_name("modality_encoders.AUDIO.relative_positional_encoder.0.0.bias"),
            None
        );
        assert_eq!(
            our_name("modality_encoders.IMAGE.decoder.blocks.3.0.weight"),
            Some(Name::Ours("decoder.blocks.3.weight".to_owned())),
        );
    }
}
