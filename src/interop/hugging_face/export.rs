//! Exports data2vec 1.0 as a folder that `from_pretrained` of `transformers` reads.

use std::fs;
use std::path::Path;

use burn::tensor::TensorData;
use serde_json::{Map, Value, json};
use understudy_pipelines::DataConfig;
use understudy_pipelines::config::Filter;
use understudy_pipelines::store::Folder;

use super::audio::AudioFolder;
use super::text::{self, TextFolder};
use super::vision::VisionFolder;
use super::{classes, family};
use crate::checkpoint::layout::HUGGING_FACE;
use crate::checkpoint::safetensors::{self, Tensors};
use crate::interop::exported::{ExportError, ExportedModel, at, write_json};
use crate::interop::qkv;
use crate::model::EncoderConfig;

/// The class of an exported model.
pub(in crate::interop) struct ExportedClass {
    name: &'static str,
    /// Further arguments of `from_pretrained`.
    options: &'static str,
}

impl ExportedClass {
    /// Returns the call that loads the folder `from`.
    pub(in crate::interop) fn hint(&self, from: &Path) -> String {
        let (name, options) = (self.name, self.options);
        let folder = from.display().to_string();
        format!("transformers.{name}.from_pretrained({folder:?}{options})")
    }
}

/// Writes the model to the folder `to`.
pub(in crate::interop) fn write(
    model: ExportedModel,
    to: &Path,
) -> Result<ExportedClass, ExportError> {
    let imported = model.pretrained.folder.join(HUGGING_FACE);
    let imported_config = read_config(&imported)?;
    let family = family(model.encoder());
    let named = classes::named_class(imported_config.get("architectures"));
    let class = family.class(model.heads.keys(), named).ok_or_else(|| {
        let heads: Vec<&str> = model.heads.keys().map(String::as_str).collect();
        ExportError::NoPlace(heads.join(", "))
    })?;
    let config = config(&model, class.name, imported_config)?;
    let processor = processor(&model.pretrained.config.data);
    // Bare models may have a pooler or not.
    let options = match class.name {
        "Data2VecTextModel" if model.heads.is_empty() => ", add_pooling_layer=False",
        "Data2VecVisionModel" if !model.heads.is_empty() => ", add_pooling_layer=True",
        _ => "",
    };

    let mut tensors = model.tensors;
    // Only pre-training needs the prediction head.
    tensors.retain(|name, _| !name.starts_with("lm_head."));
    tensors.extend(model.heads);
    if let Some(table) = tensors.get("encoder.embed.tokens") {
        // Our position embedding includes the segment embedding.
        let zeros = TensorData::zeros::<f32, _>([1, table.shape()[1]]);
        tensors.insert(text::SEGMENT.to_owned(), zeros);
    }
    let mut renamed = Tensors::new();
    for (name, tensor) in qkv::split(tensors) {
        let theirs = family
            .their_name(class, &name)
            .ok_or_else(|| ExportError::NoPlace(format!("`{name}`")))?;
        renamed.insert(theirs, tensor);
    }
    safetensors::write(&to.join("model.safetensors"), &renamed)?;
    write_json(&to.join("config.json"), &config)?;
    if let Some(processor) = processor {
        write_json(&to.join("preprocessor_config.json"), &processor)?;
    }
    // Class names, tokenizer and processor of an imported model are unchanged.
    for (name, _) in imported.files()? {
        if name != "config.json"
            && let Some(bytes) = imported.read(&name)?
        {
            let path = to.join(name);
            fs::write(&path, bytes).map_err(at(&path))?;
        }
    }
    Ok(ExportedClass {
        name: class.name,
        options,
    })
}

/// Reads the `config.json` that the model was imported with; empty if there is none.
fn read_config(imported: &Folder) -> Result<Map<String, Value>, ExportError> {
    let Some(text) = imported.read("config.json")? else {
        return Ok(Map::new());
    };
    serde_json::from_slice(&text).map_err(|error| ExportError::Config {
        path: imported.url_of("config.json"),
        reason: error.to_string(),
    })
}

/// Returns `config.json`: the model's sizes, added to the `config` that it was imported with.
fn config(
    model: &ExportedModel,
    class: &str,
    mut config: Map<String, Value>,
) -> Result<Value, ExportError> {
    let heads = &model.heads;
    let (kind, sizes) = match model.encoder() {
        EncoderConfig::Audio(config) => {
            if config.alibi || config.prenet_depth > 0 {
                return Err(ExportError::NoPlace("ALiBi or prenet blocks".to_owned()));
            }
            let mut sizes = json!(AudioFolder::from(config));
            sizes["num_feat_extract_layers"] = json!(config.conv_layers.len());
            if let Some(characters) = heads.get("ctc.weight") {
                sizes["vocab_size"] = json!(characters.shape()[0]);
            }
            ("data2vec-audio", sizes)
        }
        EncoderConfig::Text(config) if config.alibi => {
            return Err(ExportError::NoPlace("ALiBi".to_owned()));
        }
        EncoderConfig::Text(config) => ("data2vec-text", json!(TextFolder::from(config))),
        EncoderConfig::Beit(config) => {
            let mut folder = VisionFolder::from(config);
            let tensors = &model.tensors;
            folder.use_mean_pooling = !tensors.contains_key("encoder.norm.weight");
            let mut sizes = json!(folder);
            sizes["use_mask_token"] = json!(tensors.contains_key("encoder.mask_token"));
            ("data2vec-vision", sizes)
        }
        EncoderConfig::Vit(_) => unreachable!("data2vec 2.0 has no class"),
    };
    let Value::Object(sizes) = sizes else {
        unreachable!("a struct is an object")
    };
    config.extend(sizes);
    // The imported file may have had another type.
    config.remove("torch_dtype");
    config.insert("dtype".to_owned(), json!("float32"));
    config.insert("model_type".to_owned(), json!(kind));
    config.insert("architectures".to_owned(), json!([class]));
    let n_classes = ["head.weight", "sentence.out_proj.weight"]
        .iter()
        .find_map(|name| heads.get(*name))
        .map(|head| head.shape()[0]);
    if let Some(n_classes) = n_classes
        && !config.contains_key("id2label")
    {
        let names =
            (0..n_classes).map(|class| (class.to_string(), json!(format!("LABEL_{class}"))));
        config.insert("id2label".to_owned(), Value::Object(names.collect()));
    }
    Ok(Value::Object(config))
}

/// Returns `preprocessor_config.json`, which describes the model's input; text has a tokenizer
/// instead.
fn processor(data: &DataConfig) -> Option<Value> {
    if let Some(audio) = &data.audio {
        return Some(json!({
            "feature_extractor_type": "Wav2Vec2FeatureExtractor",
            "do_normalize": true,
            "feature_size": 1,
            "padding_side": "right",
            "padding_value": 0.0,
            "return_attention_mask": true,
            "sampling_rate": audio.sample_rate_hz,
        }));
    }
    let image = data.image.as_ref()?;
    // This processor resizes the short side and crops the centre, as we do.
    Some(json!({
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": true,
        "do_resize": true,
        "size": { "shortest_edge": image.eval_resize },
        "resample": match image.filter { Filter::Bilinear => 2, Filter::Bicubic => 3 },
        "do_center_crop": true,
        "crop_size": { "height": image.size, "width": image.size },
        "do_rescale": true,
        "rescale_factor": 1.0 / 255.0,
        "do_normalize": true,
        "image_mean": image.mean,
        "image_std": image.std,
    }))
}
