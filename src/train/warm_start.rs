//! Initial weights of a run: drawn by seed, or the student of another model that `init` names.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::Device;
use schemars::JsonSchema;
use serde::Deserialize;
use toml::Value;
use understudy_pipelines::config::load;
use understudy_pipelines::store::{Folder, StoreOptions};

use super::error::StartError;
use crate::checkpoint::find::find_weights;
use crate::checkpoint::layout::{CONFIG, STUDENT};
use crate::checkpoint::load_state;
use crate::checkpoint::safetensors::{self, Tensors};
use crate::config::{self, ConfigError, Overrides, RunConfig, flatten};
use crate::init;
use crate::objective::{Data2Vec, ModelConfig, Network};
use crate::params;

/// Returns student and teacher, and the SHA-256 of the vocabulary that they were trained with.
pub(super) fn initial(
    config: &RunConfig,
    device: &Device,
) -> Result<(Data2Vec, Option<String>), StartError> {
    let model = &config.model;
    let Some(place) = &config.init else {
        let objective = Data2Vec::initialised(model.clone(), config.seed, device);
        return Ok((objective, None));
    };
    let folder = Folder::open(place, &StoreOptions::default()).map_err(StartError::Init)?;
    let folder = find_weights(&folder)?;
    let (path, text) = config::read_in(&folder, CONFIG).map_err(StartError::Init)?;
    compare(&folder, &model_of(&path, &text)?, model)?;
    let state = load_state(&folder)?;
    let tensors = safetensors::read_in(&folder, STUDENT)?;
    let tensors = complete(tensors, config, &folder);
    let student = Data2Vec::new(model.clone(), device).student;
    let student = params::load(student, tensors).map_err(|source| StartError::Load {
        path: folder.url(),
        source,
    })?;
    let objective = Data2Vec::from_student(model.clone(), student);
    Ok((objective, state.and_then(|state| state.vocabulary_sha256)))
}

/// Reads the table `[model]` of a stored config; other tables may be of a newer release.
fn model_of(path: &Path, text: &str) -> Result<ModelConfig, ConfigError> {
    #[derive(Deserialize, JsonSchema)]
    struct ModelTable {
        model: ModelConfig,
    }
    let problems = |table: &ModelTable| table.model.problems();
    load::parse(path, text, &Overrides::default(), problems).map(|table| table.model)
}

/// Keys of an encoder that names and shapes of its tensors do not show, and that change what its
/// weights mean.
const HIDDEN: [&str; 3] = ["n_heads", "conv_layers", "pad_token"];

/// Keys that change it only slightly: a difference is a warning. For data2vec 1.0 the tables of
/// relative positions show the image size.
const NEARLY: [&str; 2] = ["norm_eps", "image_size"];

/// Refuses an encoder whose tensors would load and whose settings differ.
fn compare(folder: &Folder, then: &ModelConfig, now: &ModelConfig) -> Result<(), StartError> {
    // Both methods have the same encoders of audio and text.
    let without_method = |(key, value): (String, Value)| {
        let (_, key) = key.split_once('.')?;
        Some((key.to_owned(), value))
    };
    let then: BTreeMap<String, Value> = flatten(then)
        .into_iter()
        .filter_map(without_method)
        .collect();
    let mut differences = Vec::new();
    for (key, now) in flatten(now) {
        let of_encoder = key.split_once('.').map_or("", |(_, key)| key);
        let Some(then) = then.get(of_encoder).filter(|then| **then != now) else {
            continue;
        };
        let difference = format!("model.{key}: {then} → {now}");
        let is_of = |list: &[&str]| list.iter().any(|last| key.ends_with(&format!(".{last}")));
        if is_of(&HIDDEN) {
            differences.push(difference);
        } else if is_of(&NEARLY) {
            tracing::warn!(
                "`init` was trained with another setting: {}: {difference}",
                folder.url()
            );
        }
    }
    if differences.is_empty() {
        return Ok(());
    }
    Err(StartError::OtherModel {
        path: folder.url(),
        differences,
    })
}

/// Returns whether a parameter is one of the encoder's.
fn is_of_encoder(name: &str) -> bool {
    name.starts_with("encoder.")
}

/// Returns whether an imported encoder may lack this parameter: the mask token, and the norm after
/// the last block, which classifiers do not have.
fn may_lack(name: &str) -> bool {
    ["encoder.mask_token", "encoder.mask_emb"].contains(&name) || name.starts_with("encoder.norm.")
}

/// Adds a prediction head to the encoder of `tensors`: their own head where it has the model's
/// parameters. Parameters that may be missing are drawn by seed.
fn complete(tensors: Tensors, config: &RunConfig, folder: &Folder) -> Tensors {
    let student = Network::student(&config.model, &Device::flex());
    let names: Vec<String> = params::shapes(&student)
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    let (mut tensors, head): (Tensors, Tensors) = tensors
        .into_iter()
        .partition(|(name, _)| is_of_encoder(name));
    let head_names = names.iter().filter(|name| !is_of_encoder(name));
    if head_names.clone().count() == head.len() && head_names.clone().all(|n| head.contains_key(n))
    {
        tensors.extend(head);
    } else if !head.is_empty() {
        tracing::info!(
            "prediction head is not used, its parameters are not the model's: {}",
            folder.url()
        );
    }
    let lacking: Vec<String> = names
        .into_iter()
        .filter(|name| !tensors.contains_key(name) && (!is_of_encoder(name) || may_lack(name)))
        .collect();
    if !lacking.is_empty() {
        let listed = params::listed(&lacking);
        tracing::info!("initialised by seed, missing in {}: {listed}", folder.url());
        let mut fresh = params::collect(&init::network(student, &config.model, config.seed));
        tensors.extend(lacking.iter().filter_map(|name| fresh.remove_entry(name)));
    }
    tensors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::LoadError;

    const IMAGE: &str = include_str!("../../configs/tiny-image-data2vec1.toml");
    const AUDIO: &str = include_str!("../../configs/data2vec1-audio-base.toml");
    const SMALL_AUDIO: [&str; 6] = [
        "model.data2vec1.audio.conv_dim=16",
        "model.data2vec1.audio.embed_dim=32",
        "model.data2vec1.audio.depth=1",
        "model.data2vec1.audio.n_heads=4",
        "model.data2vec1.audio.pos_conv_depth=1",
        "model.data2vec1.targets.top_k=1",
    ];

    fn recipe(text: &str, set: &[&str]) -> RunConfig {
        let set: Vec<String> = set.iter().map(|&set| set.to_owned()).collect();
        RunConfig::parse(Path::new("recipe"), text, &Overrides::set(set)).expect("a recipe")
    }

    /// Returns the initial weights of a run by `now`, and those drawn by seed, where `init` names a
    /// model by `then` with the student tensors that `keep` accepts.
    fn warm_started(
        then: &RunConfig,
        now: &RunConfig,
        keep: impl Fn(&str) -> bool,
    ) -> Result<[Tensors; 2], StartError> {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join(CONFIG), then.to_toml()).expect("written");
        let model = Data2Vec::initialised(then.model.clone(), then.seed, &Device::flex());
        let mut theirs = params::collect(&model.student);
        theirs.retain(|name, _| keep(name));
        safetensors::write(&folder.path().join(STUDENT), &theirs).expect("written");
        let now = RunConfig {
            seed: then.seed + 1,
            init: Some(folder.path().display().to_string()),
            ..now.clone()
        };
        let (started, _) = initial(&now, &Device::flex())?;
        let ours = params::collect(&started.student);
        let kept = ours
            .iter()
            .filter(|(name, _)| keep(name) && is_of_encoder(name));
        for (name, tensor) in kept {
            assert_eq!(tensor, &theirs[name], "{name}");
        }
        let fresh = Data2Vec::initialised(now.model.clone(), now.seed, &Device::flex());
        Ok([ours, params::collect(&fresh.student)])
    }

    #[test]
    fn parameters_missing_in_imported_models_are_drawn_by_seed() {
        for (config, lacks) in [
            (recipe(IMAGE, &[]), ["encoder.mask_token", "encoder.norm."]),
            (
                recipe(AUDIO, &SMALL_AUDIO),
                ["encoder.mask_emb", "lm_head."],
            ),
        ] {
            let is_lacking = |name: &str| lacks.iter().any(|prefix| name.starts_with(prefix));
            let started = warm_started(&config, &config, |name| !is_lacking(name));
            let [ours, fresh] = started.expect("initial weights");
            let filled: Vec<_> = ours.keys().filter(|name| is_lacking(name)).collect();
            assert!(filled.len() > 2, "{filled:?}");
            for name in filled {
                assert_eq!(ours[name], fresh[name], "{name}");
            }
        }
    }

    #[test]
    fn any_other_missing_parameter_is_rejected() {
        let config = recipe(IMAGE, &[]);
        let name = "encoder.blocks.1.norm1.weight";
        let error = warm_started(&config, &config, |of| of != name).expect_err("a damaged model");
        let StartError::Load { source, .. } = error else {
            panic!("{error}")
        };
        assert_eq!(source, LoadError::Missing(vec![name.to_owned()]));
    }

    #[test]
    fn head_of_another_kind_is_not_used() {
        let now = recipe(IMAGE, &[]);
        let then = recipe(IMAGE, &["model.data2vec1.head_hidden_dim=24"]);
        let [ours, fresh] = warm_started(&then, &now, |_| true).expect("initial weights");
        let heads = ours.keys().filter(|name| !is_of_encoder(name));
        assert!(heads.clone().count() > 0);
        for name in heads {
            assert_eq!(ours[name], fresh[name], "{name}");
        }
    }

    #[test]
    fn settings_that_tensors_do_not_show_are_compared() {
        let differs = |text, base: &[&str], change: &[&str]| {
            let then = recipe(text, base);
            let now = recipe(text, &[base, change].concat());
            match warm_started(&then, &now, |_| true).expect_err("another model") {
                StartError::OtherModel { differences, .. } => differences.join(" "),
                error => panic!("{error}"),
            }
        };
        let image = differs(IMAGE, &[], &["model.data2vec1.image.n_heads=8"]);
        assert_eq!(image, "model.data2vec1.image.n_heads: 4 → 8");
        let strides = [
            "model.data2vec1.audio.conv_layers=[[10,4],[3,2],[3,2],[3,2],[3,2],[2,2],[2,2]]",
            "data.audio.window_frames=322",
            "data.audio.hop_frames=256",
        ];
        let audio = differs(AUDIO, &SMALL_AUDIO, &strides);
        let key = "model.data2vec1.audio.conv_layers: ";
        assert!(audio.starts_with(key), "{audio}");
        let config = recipe(IMAGE, &[]);
        let other = recipe(IMAGE, &["model.data2vec1.image.norm_eps=1e-5"]);
        assert!(warm_started(&config, &other, |_| true).is_ok());
    }
}
