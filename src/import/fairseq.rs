//! data2vec 2.0 images: fairseq's `data2vec_multi`.

use super::{ImportError, Name, Tensors, rename};

const IMAGE: &str = "modality_encoders.IMAGE.";

/// Our name of a parameter of fairseq's model.
fn our_name(theirs: &str) -> Option<Name> {
    let Some(part) = theirs.strip_prefix(IMAGE) else {
        return theirs
            .starts_with("blocks.")
            .then(|| Name::Ours(format!("encoder.{theirs}")));
    };
    if part == "fixed_positional_encoder.positions" {
        return Some(Name::Dropped);
    }
    let ours = if part == "extra_tokens" {
        "encoder.cls_token".to_owned()
    } else if let Some(rest) = part.strip_prefix("local_encoder.") {
        format!("encoder.patch_embed.{rest}")
    } else if let Some(rest) = part.strip_prefix("context_encoder.") {
        format!("encoder.context.{rest}")
    } else if let Some(rest) = part.strip_prefix("decoder.blocks.") {
        // A convolution is the first module of its fairseq block.
        let (layer, rest) = rest.split_once(".0.")?;
        format!("decoder.blocks.{layer}.{rest}")
    } else {
        part.starts_with("decoder.proj.").then(|| part.to_owned())?
    };
    Some(Name::Ours(ours))
}

/// All tensors of a student (or of a teacher, without the prefix `_ema.`) under our names.
pub fn import(tensors: Tensors) -> Result<Tensors, ImportError> {
    rename(tensors, our_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_names_are_refused() {
        assert_eq!(our_name("modality_encoders.AUDIO.extra_tokens"), None);
        assert_eq!(our_name("modality_encoders.IMAGE.decoder.mask"), None);
        assert_eq!(
            our_name("modality_encoders.IMAGE.decoder.blocks.3.0.weight"),
            Some(Name::Ours("decoder.blocks.3.weight".to_owned())),
        );
    }
}
