//! data2vec 2.0 as fairseq stores it: `data2vec_multi`.

use burn::tensor::TensorData;

use super::fairseq1::wave_layer;
use super::{ImportError, Name, Tensors, rename};

/// All tensors of a student under our names.
pub fn student(tensors: Tensors) -> Result<Tensors, ImportError> {
    Ok(flat_scales(rename(tensors, our_name)?))
}

/// All tensors of a teacher, as they are named within `_ema`: those of text relative to `blocks`.
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

/// Our name of a parameter of fairseq's model.
fn our_name(theirs: &str) -> Option<Name> {
    let Some(part) = theirs.strip_prefix("modality_encoders.") else {
        return theirs
            .starts_with("blocks.")
            .then(|| Name::Ours(format!("encoder.{theirs}")));
    };
    let (modality, part) = part.split_once('.')?;
    if let Some(rest) = part.strip_prefix("context_encoder.") {
        return Some(Name::Ours(format!("encoder.context.{rest}")));
    }
    if let Some(rest) = part.strip_prefix("decoder.") {
        return Some(Name::Ours(format!("decoder.{}", in_decoder(rest)?)));
    }
    let ours = match (modality, part) {
        ("IMAGE", "fixed_positional_encoder.positions") => return Some(Name::Dropped),
        ("IMAGE", _) => in_image(part)?,
        ("AUDIO", _) => in_audio(part)?,
        ("TEXT", _) => in_text(part)?,
        _ => return None,
    };
    Some(Name::Ours(format!("encoder.{ours}")))
}

fn in_image(part: &str) -> Option<String> {
    if part == "extra_tokens" {
        return Some("cls_token".to_owned());
    }
    let rest = part.strip_prefix("local_encoder.")?;
    Some(format!("patch_embed.{rest}"))
}

fn in_audio(part: &str) -> Option<String> {
    if let Some(rest) = part.strip_prefix("local_encoder.conv_layers.") {
        Some(format!("local.layers.{}", wave_layer(rest)?))
    } else if let Some(rest) = part.strip_prefix("project_features.1.") {
        Some(format!("local.norm.{rest}"))
    } else if let Some(rest) = part.strip_prefix("project_features.2.") {
        Some(format!("local.proj.{rest}"))
    } else if let Some(rest) = part.strip_prefix("relative_positional_encoder.") {
        // The first module of theirs only swaps dimensions.
        let (layer, rest) = rest.split_once(".0.")?;
        let layer = layer.parse::<usize>().ok()?.checked_sub(1)?;
        Some(format!("pos_conv.{layer}.{rest}"))
    } else {
        (part == "alibi_scale").then(|| part.to_owned())
    }
}

fn in_text(part: &str) -> Option<String> {
    let name = part.strip_prefix("local_encoder.")?;
    Some(match name {
        "embed_tokens.weight" => "embed.tokens".to_owned(),
        "embed_positions.weight" => "embed.positions".to_owned(),
        _ => format!("embed.norm.{}", name.strip_prefix("layernorm_embedding.")?),
    })
}

fn in_decoder(name: &str) -> Option<String> {
    if let Some(rest) = name.strip_prefix("blocks.") {
        // A convolution is the first module of its fairseq block.
        let (layer, rest) = rest.split_once(".0.")?;
        return Some(format!("blocks.{layer}.{rest}"));
    }
    let rest = name.strip_prefix("proj.")?;
    match rest.split_once('.') {
        None => Some(name.to_owned()),
        Some(("0", rest)) => Some(format!("proj.fc1.{rest}")),
        Some(("2", rest)) => Some(format!("proj.fc2.{rest}")),
        Some(_) => None,
    }
}

/// Scales of attention's slopes, `[1, 1, H, 1, 1]` (older files: one dimension fewer), as `[H]`.
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
    fn unknown_names_are_refused() {
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
