//! Imports data2vec 1.0 images of `facebookresearch/data2vec_vision` (BEiT's names, as ours).

use crate::checkpoint::safetensors::Tensors;
use crate::interop::error::ImportError;
use crate::interop::names::{Name, rename};
use crate::model::{BeitConfig, RelativePosition};

/// Returns our name of a parameter, or `None` where we store none.
///
/// Unknown names are returned as they are, below `encoder.`; loading refuses them.
pub fn our_name(theirs: &str) -> Option<String> {
    if theirs.ends_with("relative_position_index") {
        return None;
    }
    if ["lm_head.", "fc_norm.", "head."]
        .iter()
        .any(|prefix| theirs.starts_with(prefix))
    {
        return Some(theirs.to_owned());
    }
    let inner = theirs.replace(
        ".attn.relative_position_bias_table",
        ".attn.rel_pos_bias.relative_position_bias_table",
    );
    Some(format!("encoder.{inner}"))
}

/// Renames all tensors of a model to our names.
pub fn import(tensors: Tensors) -> Result<Tensors, ImportError> {
    rename(tensors, |theirs| {
        Some(our_name(theirs).map_or(Name::Dropped, Name::Ours))
    })
}

/// Returns the encoder config of tensors under our names: the files hold no config, shapes determine
/// the sizes. Initial LayerScale and drop rates are those of the published Base.
pub fn encoder(tensors: &Tensors) -> Result<BeitConfig, ImportError> {
    let shape = |name: &str| {
        let tensor = tensors.get(name);
        tensor
            .map(|tensor| tensor.shape().to_vec())
            .ok_or_else(|| ImportError::NoTensor(name.to_owned()))
    };
    let proj = shape("encoder.patch_embed.proj.weight")?;
    let fc1 = shape("encoder.blocks.0.mlp.fc1.weight")?;
    let shared = "encoder.rel_pos_bias.relative_position_bias_table";
    let own = "encoder.blocks.0.attn.rel_pos_bias.relative_position_bias_table";
    let (table, relative_position) = match shape(shared) {
        Ok(table) => (table, RelativePosition::Shared),
        Err(_) => (shape(own)?, RelativePosition::PerLayer),
    };
    let (&[embed_dim, _, patch_size, _], &[hidden_dim, _], &[n_rows, n_heads]) =
        (&proj[..], &fc1[..], &table[..])
    else {
        return Err(ImportError::Unsupported("tensors of another rank"));
    };
    // One row for each offset between two patches, and three of the class token.
    let grid = ((n_rows as f64 - 3.0).max(0.0).sqrt() as usize).div_ceil(2);
    let is_block = |name: &&String| name.ends_with(".norm1.weight");
    Ok(BeitConfig {
        image_size: grid * patch_size,
        patch_size,
        embed_dim,
        depth: tensors.keys().filter(is_block).count(),
        n_heads,
        mlp_ratio: hidden_dim as f64 / embed_dim as f64,
        norm_eps: 1e-6,
        layer_scale: 1e-4,
        relative_position,
        drop_path_prob: 0.25,
        attention_drop_prob: 0.05,
    })
}
