//! data2vec 1.0 images: `facebookresearch/data2vec_vision` (BEiT's names, which ours follow).

use super::{ImportError, Name, Tensors, rename};

/// Our name of a parameter of `facebookresearch/data2vec_vision`, or none where we store none.
///
/// Names that do not occur there come back as they are, below `encoder.`; loading refuses them.
pub fn our_name(theirs: &str) -> Option<String> {
    if theirs.ends_with("relative_position_index") {
        return None;
    }
    if ["lm_head.", "fc_norm.", "head."]
        .iter()
        .any(|part| theirs.starts_with(part))
    {
        return Some(theirs.to_owned());
    }
    let inner = theirs.replace(
        ".attn.relative_position_bias_table",
        ".attn.rel_pos_bias.relative_position_bias_table",
    );
    Some(format!("encoder.{inner}"))
}

/// All tensors of a model under our names.
pub fn import(tensors: Tensors) -> Result<Tensors, ImportError> {
    rename(tensors, |theirs| {
        Some(our_name(theirs).map_or(Name::Dropped, Name::Ours))
    })
}
