//! The tables of a stored config that readers of an encoder need.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use understudy_pipelines::config::load;
use understudy_pipelines::store::Folder;
use understudy_pipelines::{DataConfig, Error};

use super::{ConfigError, Overrides, RunConfig, Threads, read_in};
use crate::objective::ModelConfig;

/// Keys at the root that only training reads.
const TRAINING: [&str; 6] = ["steps", "init", "ema", "optim", "guard", "train"];

/// The tables of a stored config that describe an encoder and its input. Other keys at the root, such
/// as those of a newer release, are not read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PretrainedConfig {
    /// Seed of the initial weights, for the untrained encoder of an evaluation.
    pub seed: u64,
    /// Threads on the CPU.
    #[serde(default)]
    pub threads: Threads,
    /// The samples: source, decoding, and the input of the encoder.
    pub data: DataConfig,
    /// The method and its encoder.
    pub model: ModelConfig,
}

impl PretrainedConfig {
    /// Reads the file `name` of `folder`, changed by `overrides`, and checks it. Overrides of keys
    /// that no release has are refused, overrides of training's tables have no effect.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], with all problems at once, or those of the store.
    pub fn load_in(folder: &Folder, name: &str, overrides: &Overrides) -> Result<Self, Error> {
        let (path, text) = read_in(folder, name)?;
        Ok(Self::parse(&path, &text, overrides)?)
    }

    fn parse(path: &Path, text: &str, overrides: &Overrides) -> Result<Self, ConfigError> {
        load::refuse_unknown::<RunConfig>(overrides)?;
        let overrides = overrides.without_roots(&TRAINING);
        load::parse(path, text, &overrides, Self::problems)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECIPE: &str = include_str!("../../configs/tiny-image.toml");

    fn parse(text: &str, set: &[&str]) -> Result<PretrainedConfig, ConfigError> {
        let overrides = Overrides::set(set.iter().copied());
        PretrainedConfig::parse(Path::new("config.toml"), text, &overrides)
    }

    #[test]
    fn unknown_keys_of_training_are_not_read() {
        let newer = RECIPE.replace("[optim]", "[optim]\nmuon = true");
        let newer = format!("release = 9\n{newer}\n[tracker]\nurl = \"x\"\n");
        assert_ne!(newer, RECIPE);
        let path = Path::new("config.toml");
        assert!(RunConfig::parse(path, &newer, &Overrides::default()).is_err());
        let read = parse(&newer, &["optim.lr=1.0"]).expect("its tables");
        assert_eq!(read, parse(RECIPE, &[]).expect("a recipe"));
    }

    #[test]
    fn unknown_keys_of_the_model_and_of_overrides_are_rejected() {
        let newer = RECIPE.replace("[model.data2vec2.image]", "[model.data2vec2.image]\nx = 1");
        assert_ne!(newer, RECIPE);
        assert!(parse(&newer, &[]).is_err());
        for set in ["optim.clip_nrom=1", "modell.x=1", "data.batch=7"] {
            let error = parse(RECIPE, &[set]).expect_err("a mistake").to_string();
            assert!(error.contains(set), "{error}");
        }
    }
}
