//! data2vec 1.0 as `transformers` has it: `Data2VecAudio*`, `Data2VecText*`, `Data2VecVision*`.

use std::fs;
use std::path::Path;

use burn::tensor::TensorData;
use serde_json::{Map, Value, json};
use understudy_pipelines::DataConfig;
use understudy_pipelines::config::Filter;
use understudy_pipelines::store::Folder;

use super::{ExportError, Model, at, encoder, write_json};
use crate::import::fused;
use crate::import::hugging_face::audio::AudioFolder;
use crate::import::hugging_face::classes;
use crate::import::hugging_face::text::{self, TextFolder};
use crate::import::hugging_face::vision::VisionFolder;
use crate::import::{Tensors, hugging_face};
use crate::model::EncoderConfig;
use crate::pretrained::HUGGING_FACE;
use crate::weights;

/// A class of theirs that a model becomes.
pub(super) struct Class {
    name: &'static str,
    /// What `from_pretrained` must be told besides.
    options: &'static str,
}

impl Class {
    /// The call that loads the folder `from`.
    pub(super) fn hint(&self, from: &Path) -> String {
        let (name, options) = (self.name, self.options);
        let folder = from.display().to_string();
        format!("transformers.{name}.from_pretrained({folder:?}{options})")
    }
}

/// Writes a folder that `from_pretrained` reads.
pub(super) fn write(model: Model, to: &Path) -> Result<Class, ExportError> {
    let came_with = model.pretrained.folder.join(HUGGING_FACE);
    let told = read_config(&came_with)?;
    let medium = hugging_face::medium(encoder(&model));
    let class = medium
        .class(model.heads.keys(), classes::told(told.get("architectures")))
        .ok_or_else(|| {
            let heads: Vec<&str> = model.heads.keys().map(String::as_str).collect();
            ExportError::NoPlace(heads.join(", "))
        })?;
    let config = config(&model, class.name, told)?;
    let processor = processor(&model.pretrained.config.data);
    // What is not in every bare model.
    let options = match class.name {
        "Data2VecTextModel" if model.heads.is_empty() => ", add_pooling_layer=False",
        "Data2VecVisionModel" if !model.heads.is_empty() => ", add_pooling_layer=True",
        _ => "",
    };

    let mut tensors = model.tensors;
    // What only pre-training needs.
    tensors.retain(|name, _| !name.starts_with("lm_head."));
    tensors.extend(model.heads);
    if let Some(table) = tensors.get("encoder.embed.tokens") {
        // The one segment's row is part of our positions.
        let zeros = TensorData::zeros::<f32, _>([1, table.shape()[1]]);
        tensors.insert(text::SEGMENT.to_owned(), zeros);
    }
    let mut renamed = Tensors::new();
    for (name, tensor) in fused::split(tensors) {
        let theirs = medium
            .their_name(class, &name)
            .ok_or_else(|| ExportError::NoPlace(format!("`{name}`")))?;
        renamed.insert(theirs, tensor);
    }
    weights::write(&to.join("model.safetensors"), &renamed)?;
    write_json(&to.join("config.json"), &config)?;
    if let Some(processor) = processor {
        write_json(&to.join("preprocessor_config.json"), &processor)?;
    }
    // Labels' names, tokenizers and processors of an imported model are what they were.
    for (name, _) in came_with.files()? {
        if name != "config.json"
            && let Some(bytes) = came_with.read(&name)?
        {
            let path = to.join(name);
            fs::write(&path, bytes).map_err(at(&path))?;
        }
    }
    Ok(Class {
        name: class.name,
        options,
    })
}

/// The `config.json` that the model came with; empty if none.
fn read_config(came_with: &Folder) -> Result<Map<String, Value>, ExportError> {
    let Some(text) = came_with.read("config.json")? else {
        return Ok(Map::new());
    };
    serde_json::from_slice(&text).map_err(|error| ExportError::Config {
        path: came_with.url_of("config.json"),
        reason: error.to_string(),
    })
}

/// `config.json`: what the model came with, `config`, with its sizes.
fn config(
    model: &Model,
    class: &str,
    mut config: Map<String, Value>,
) -> Result<Value, ExportError> {
    let heads = &model.heads;
    let (kind, sizes) = match encoder(model) {
        EncoderConfig::Audio(config) => {
            if config.alibi || config.prenet_depth > 0 {
                return Err(ExportError::NoPlace("ALiBi or prenet blocks".to_owned()));
            }
            let mut sizes = json!(AudioFolder::from(config));
            sizes["num_feat_extract_layers"] = json!(config.conv_layers.len());
            if let Some(letters) = heads.get("ctc.weight") {
                sizes["vocab_size"] = json!(letters.shape()[0]);
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
        EncoderConfig::Vit(_) => unreachable!("2.0 is exported otherwise"),
    };
    let Value::Object(sizes) = sizes else {
        unreachable!("a struct is an object")
    };
    config.extend(sizes);
    // Whatever it was when it came in.
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

/// `preprocessor_config.json`: how the model wants its input; text has a tokenizer instead.
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
    // The one of their processors that resizes the short side and cuts the middle, as we do.
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
