//! Adds settings that an imported checkpoint does not have: the published recipe of its method and
//! modality, fitted to its sizes.

use std::path::Path;

use serde::Deserialize;

use super::error::ImportError;
use super::pickle;
use crate::config::{Overrides, RunConfig};
use crate::model::EncoderConfig;
use crate::objective::ModelConfig;

/// Returns the published recipe with `model` in place of the recipe's own.
pub(super) fn fitted(model: ModelConfig) -> Result<RunConfig, ImportError> {
    let problems = model.problems();
    if !problems.is_empty() {
        return Err(ImportError::Unfit(problems));
    }
    let is_v1 = matches!(model, ModelConfig::Data2vec1(_));
    let mut config = published(is_v1, model.encoder().table());
    config.model = model;
    let data = &mut config.data;
    match config.model.encoder() {
        EncoderConfig::Beit(_) | EncoderConfig::Vit(_) => {
            let image = data.image.as_mut().expect("a recipe for images");
            let size = config.model.image_size().expect("images have a size") as u32;
            image.eval_resize = (image.eval_resize * size).div_ceil(image.size);
            image.size = size;
            let grid = config.model.grid().expect("images have a grid");
            data.mask.fit_grid(grid);
        }
        EncoderConfig::Audio(encoder) => {
            let audio = data.audio.as_mut().expect("a recipe for audio");
            audio.window_frames = encoder.window_frames();
            audio.hop_frames = encoder.hop_frames();
        }
        EncoderConfig::Text(encoder) => {
            let text = data.text.as_mut().expect("a recipe for text");
            text.max_tokens = encoder.max_tokens;
        }
    }
    let problems = config.problems();
    if problems.is_empty() {
        Ok(config)
    } else {
        Err(ImportError::Unfit(problems))
    }
}

/// Returns the recipe of data2vec 1.0's or 2.0's Base model of `modality`.
fn published(is_v1: bool, modality: &str) -> RunConfig {
    macro_rules! recipe {
        ($name:literal) => {
            (
                $name,
                include_str!(concat!("../../configs/", $name, ".toml")),
            )
        };
    }
    let (name, text) = match (is_v1, modality) {
        (true, "image") => recipe!("data2vec1-image-base"),
        (true, "audio") => recipe!("data2vec1-audio-base"),
        (true, _) => recipe!("data2vec1-text-base"),
        (false, "image") => recipe!("data2vec2-image-base"),
        (false, "audio") => recipe!("data2vec2-audio-base"),
        (false, _) => recipe!("data2vec2-text-base"),
    };
    RunConfig::parse(Path::new(name), text, &Overrides::default())
        .expect("a recipe that the tests build")
}

/// Returns data2vec 1.0 with this encoder, for a checkpoint that has only an encoder.
pub(super) fn with_encoder(encoder: EncoderConfig<'_>) -> ModelConfig {
    let ModelConfig::Data2vec1(mut model) = published(true, encoder.table()).model else {
        unreachable!("a recipe of 1.0")
    };
    match encoder {
        EncoderConfig::Beit(config) => model.image = Some(config.clone()),
        EncoderConfig::Audio(config) => model.audio = Some(config.clone()),
        EncoderConfig::Text(config) => {
            // The reference's head has twice the width between its layers.
            model.head_hidden_dim = Some(config.embed_dim.saturating_mul(2));
            model.text = Some(config.clone());
        }
        EncoderConfig::Vit(_) => unreachable!("2.0 comes with its decoder"),
    }
    model.targets.top_k = model.targets.top_k.map(|k| k.min(encoder.depth()));
    ModelConfig::Data2vec1(model)
}

/// Keys of a Hugging Face folder's `preprocessor_config.json` that we use.
#[derive(Deserialize)]
struct Preprocessor {
    sampling_rate: Option<u32>,
    image_mean: Option<[f32; 3]>,
    image_std: Option<[f32; 3]>,
}

/// Applies sample rate and normalisation of a Hugging Face folder's `preprocessor_config.json`, if
/// there is one.
pub(super) fn apply_preprocessor(config: &mut RunConfig, folder: &Path) -> Result<(), ImportError> {
    let path = folder.join("preprocessor_config.json");
    if !path.exists() {
        return Ok(());
    }
    let preprocessor: Preprocessor = pickle::read_json(&path)?;
    if let (Some(audio), Some(rate)) = (&mut config.data.audio, preprocessor.sampling_rate) {
        audio.sample_rate_hz = rate;
    }
    if let Some(image) = &mut config.data.image {
        image.mean = preprocessor.image_mean.unwrap_or(image.mean);
        image.std = preprocessor.image_std.unwrap_or(image.std);
    }
    Ok(())
}
