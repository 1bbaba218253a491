//! Checks the sizes of a config against its tensors, before anything of that size is allocated.

use super::error::ImportError;
use crate::checkpoint::safetensors::Tensors;
use crate::model::{EncoderConfig, RelativePosition, hidden_dim};
use crate::objective::ModelConfig;

/// Upper bound of every size, vocabularies included; products of two do not overflow.
pub(super) const LARGEST: usize = 10_000_000;
/// Upper bound of patches per side: fixed positions have no tensor to check against.
const LARGEST_GRID: usize = 256;

/// Refuses a model with other sizes than its tensors, which have our names.
pub(super) fn check(model: &ModelConfig, tensors: &Tensors) -> Result<(), ImportError> {
    let found = Found(tensors);
    let encoder = model.encoder();
    let mut claims = claims(encoder, &found)?;
    // A fine-tuned model has no decoder.
    let n_layers = found.count("decoder.blocks.");
    if let ModelConfig::Data2vec2(model) = model
        && n_layers > 0
    {
        claims.push(("decoder.n_layers", model.decoder.n_layers, n_layers));
    }
    let mut problems = Vec::new();
    for (key, claimed, found) in claims {
        if claimed != found {
            problems.push(format!(
                "{key} is {claimed} in the config and {found} in the tensors"
            ));
        }
    }
    problems.extend(unbounded(encoder));
    if problems.is_empty() {
        Ok(())
    } else {
        Err(ImportError::Unfit(problems))
    }
}

/// A key, the config's value, and the value of the tensors.
type Claim = (&'static str, usize, usize);

/// Returns an encoder's sizes that tensors determine.
fn claims(encoder: EncoderConfig<'_>, found: &Found<'_>) -> Result<Vec<Claim>, ImportError> {
    let mlp_ratio = encoder.mlp_ratio();
    let embed_dim = encoder.embed_dim();
    let mut claims = vec![
        ("depth", encoder.depth(), found.count("encoder.blocks.")),
        (
            "embed_dim",
            embed_dim,
            found.dim("encoder.blocks.0.norm1.weight", 0)?,
        ),
        (
            "hidden dimension of the MLP",
            hidden_dim(embed_dim, mlp_ratio),
            found.dim("encoder.blocks.0.mlp.fc1.weight", 0)?,
        ),
    ];
    match encoder {
        EncoderConfig::Beit(config) => {
            let table = match config.relative_position {
                RelativePosition::Shared => "encoder.rel_pos_bias.relative_position_bias_table",
                RelativePosition::PerLayer => {
                    "encoder.blocks.0.attn.rel_pos_bias.relative_position_bias_table"
                }
            };
            let grid = config
                .image_size
                .checked_div(config.patch_size)
                .unwrap_or(0);
            // One row for each offset between two patches, and three of the class token.
            let n_rows = (2 * grid.clamp(1, LARGEST) - 1).pow(2) + 3;
            claims.extend([
                ("patch_size", config.patch_size, found.dim(PATCHES, 2)?),
                ("rows of relative positions", n_rows, found.dim(table, 0)?),
                ("n_heads", config.n_heads, found.dim(table, 1)?),
            ]);
        }
        EncoderConfig::Vit(config) => claims.extend([
            ("patch_size", config.patch_size, found.dim(PATCHES, 2)?),
            ("prenet_depth", config.prenet_depth, found.count(PRENET)),
        ]),
        EncoderConfig::Audio(config) => {
            claims.extend([
                ("prenet_depth", config.prenet_depth, found.count(PRENET)),
                (
                    "conv_layers",
                    config.conv_layers.len(),
                    found.count("encoder.local.layers."),
                ),
                (
                    "pos_conv_depth",
                    config.pos_conv_depth,
                    found.count("encoder.pos_conv."),
                ),
            ]);
            for (layer_idx, &[kernel, _]) in config.conv_layers.iter().enumerate() {
                let name = format!("encoder.local.layers.{layer_idx}.conv.weight");
                claims.push(("conv_dim", config.conv_dim, found.dim(&name, 0)?));
                claims.push(("kernel of conv_layers", kernel, found.dim(&name, 2)?));
            }
            if config.pos_conv_depth > 0 {
                let kernel = found.dim("encoder.pos_conv.0.weight", 2)?;
                claims.push(("pos_conv_kernel", config.pos_conv_kernel, kernel));
            }
        }
        EncoderConfig::Text(config) => {
            let n_rows = config
                .max_tokens
                .saturating_add(config.pad_token)
                .saturating_add(1);
            claims.extend([
                (
                    "vocab_size",
                    config.vocab_size,
                    found.dim("encoder.embed.tokens", 0)?,
                ),
                (
                    "rows of positions",
                    n_rows,
                    found.dim("encoder.embed.positions", 0)?,
                ),
            ]);
        }
    }
    Ok(claims)
}

const PATCHES: &str = "encoder.patch_embed.proj.weight";
const PRENET: &str = "encoder.context.blocks.";

/// Returns the problem of a size that no tensor determines and that is too large.
fn unbounded(encoder: EncoderConfig<'_>) -> Option<String> {
    match encoder {
        EncoderConfig::Beit(_) | EncoderConfig::Text(_) => None,
        EncoderConfig::Vit(config) => {
            let grid = config.image_size.checked_div(config.patch_size)?;
            (grid > LARGEST_GRID)
                .then(|| format!("image_size {} has too many patches", config.image_size))
        }
        EncoderConfig::Audio(config) => {
            let strides = config.conv_layers.iter().map(|&[_, stride]| stride);
            let hop = strides.fold(1, usize::saturating_mul);
            (hop > LARGEST).then(|| format!("the strides of conv_layers multiply to {hop} frames"))
        }
    }
}

/// Tensors that determine sizes.
struct Found<'a>(&'a Tensors);

impl Found<'_> {
    fn dim(&self, name: &str, axis: usize) -> Result<usize, ImportError> {
        let tensor = self.0.get(name);
        tensor
            .and_then(|tensor| tensor.shape().get(axis).copied())
            .ok_or_else(|| ImportError::NoTensor(name.to_owned()))
    }

    /// Returns the number of modules in the list `list` that have tensors.
    fn count(&self, list: &str) -> usize {
        let names = self.0.keys().filter_map(|name| name.strip_prefix(list));
        let mut modules: Vec<&str> = names.filter_map(|name| name.split('.').next()).collect();
        modules.sort_unstable();
        modules.dedup();
        modules.len()
    }
}
