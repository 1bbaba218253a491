//! Exports data2vec 2.0: safetensors, the config as JSON, and a table of names.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde_json::json;

use super::exported::{ExportError, ExportedModel, at, write_json};
use super::fairseq::{self, data2vec_v2};
use crate::checkpoint::safetensors;

/// One sentence on how to load it.
pub(super) const HINT: &str =
    "data2vec 2.0 has no class in transformers: safetensors under the names of its README.md";

/// Writes `model.safetensors`, `config.json` and `README.md`.
pub(super) fn write(mut model: ExportedModel, to: &Path) -> Result<(), ExportError> {
    let has_heads = !model.heads.is_empty();
    model.tensors.append(&mut model.heads);
    safetensors::write(&to.join("model.safetensors"), &model.tensors)?;
    let config = &model.pretrained.config;
    let data = &config.data;
    // How samples are made, without the paths of the datasets.
    let input = [json!(data.image), json!(data.audio), json!(data.text)];
    let input = input.into_iter().find(|table| !table.is_null());
    let config = json!({ "model": config.model, "input": input });
    write_json(&to.join("config.json"), &config)?;
    let path = to.join("README.md");
    fs::write(&path, readme(&model, has_heads)).map_err(at(&path))
}

fn readme(model: &ExportedModel, has_heads: bool) -> String {
    let modality = model.encoder().table();
    let weights = model.pretrained.weights.name();
    let mut text = format!(
        "# data2vec 2.0, {modality}, the {weights}'s weights\n\n\
         `config.json` holds the sizes. Matrices are `[out, in]`, convolutions `[out, in / groups, kernel…]`, \
         `qkv` is query, key and value, concatenated in this order. Blocks are normalised after their \
         branches. `encoder.` is the model; only pre-training uses `decoder.`.\n\n\
         | name | shape | in fairseq's `data2vec_multi` |\n| --- | --- | --- |\n"
    );
    for (name, tensor) in &model.tensors {
        let shape = tensor.shape().to_vec();
        let theirs = data2vec_v2::their_name(name, modality).or_else(|| fairseq::their_head(name));
        let theirs = theirs.map_or("–".to_owned(), |name| format!("`{name}`"));
        writeln!(text, "| `{name}` | {shape:?} | {theirs} |")
            .expect("writing to a string cannot fail");
    }
    if has_heads {
        text.push_str("\nThe head has the names of fairseq's fine-tuned model, whose other names have a prefix.\n");
    }
    if modality == "audio" {
        text.push_str("\n`alibi_scale` is `[1, 1, heads, 1, 1]` in fairseq.\n");
    }
    text
}
