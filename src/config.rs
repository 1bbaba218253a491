//! The config of a run: one TOML file, from which everything else follows.

mod check;
mod keys;
mod pretrained;

pub(crate) use keys::flatten;
pub use pretrained::PretrainedConfig;

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use understudy_pipelines::config::load;
pub use understudy_pipelines::config::{ConfigError, Overrides};
use understudy_pipelines::store::Folder;
use understudy_pipelines::{DataConfig, Error};

use crate::objective::ModelConfig;
use crate::optim::{EmaSchedule, OptimConfig};

/// Name and version of this program, for the files that it writes.
pub(crate) const PROGRAM: &str = concat!("understudy ", env!("CARGO_PKG_VERSION"));

/// Version of the format of stored configs.
const FORMAT: u32 = 1;

/// The config of a run, as a recipe of `configs/` gives it or as a run stores it, resolved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// Seed of the initial weights and of the randomness inside the model.
    pub seed: u64,
    /// Optimizer steps of the run.
    pub steps: u64,
    /// Another run, or one of its checkpoints, whose student initializes this run's student and
    /// teacher: a warm start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<String>,
    /// Threads; resolved at the start and stored with the run.
    #[serde(default)]
    pub threads: Threads,
    /// The samples: source, order, decoding, augmentation, masks.
    pub data: DataConfig,
    /// The method and its encoder.
    pub model: ModelConfig,
    /// The teacher's moving average.
    pub ema: EmaSchedule,
    /// The optimizer.
    pub optim: OptimConfig,
    /// The limits at which a run stops as diverged or collapsed.
    pub guard: GuardConfig,
    /// Logging, saving, micro-batches.
    pub train: TrainConfig,
}

/// Threads on the CPU; unset, the number of cores.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Threads {
    /// For the model's arithmetic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute: Option<usize>,
    /// For decoding, augmentation and masks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<usize>,
}

/// The limits at which a run stops as collapsed: the table `[guard]`. A loss that is not finite
/// always stops it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GuardConfig {
    /// First step at which the limits apply.
    pub from_step: u64,
    /// Least `train/target_var`, the standard deviation of the targets; 0 turns it off.
    pub min_target_var: f64,
    /// Least `train/pred_var`, the standard deviation of the predictions; 0 turns it off.
    pub min_pred_var: f64,
    /// Least `train/local_var`, the standard deviation of the local features; 0 turns it off.
    pub min_local_var: f64,
}

/// Logging, saving, micro-batches: the table `[train]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Micro-batches per step; divides `data.lanes`.
    pub micro_batches: usize,
    /// Steps between lines of `metrics.jsonl`.
    pub log_every: u64,
    /// Steps between checkpoints.
    pub save_every: u64,
    /// Seconds after which a checkpoint is saved although `save_every` steps are not done; 900.
    #[serde(default = "default_save_every_secs")]
    pub save_every_secs: u64,
    /// Multiples of this step whose checkpoints are kept for good, next to the newest two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_every_steps: Option<u64>,
}

fn default_save_every_secs() -> u64 {
    900
}

impl Threads {
    /// Sets unset numbers to the number of cores.
    pub fn resolve(&mut self) {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        self.compute.get_or_insert(cores);
        self.data.get_or_insert(cores);
    }
}

impl RunConfig {
    /// Reads the config at `path`, changed by `overrides`, and checks it.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], with all problems at once.
    pub fn load(path: &Path, overrides: &Overrides) -> Result<Self, ConfigError> {
        Self::parse(path, &load::read(path)?, overrides)
    }

    /// Reads the file `name` of a folder, which may be in a store; otherwise as [`RunConfig::load`].
    ///
    /// # Errors
    ///
    /// Also those of the store.
    pub fn load_in(folder: &Folder, name: &str, overrides: &Overrides) -> Result<Self, Error> {
        let (path, text) = read_in(folder, name)?;
        Ok(Self::parse(&path, &text, overrides)?)
    }

    /// Parses `text`; otherwise as [`RunConfig::load`]. `path` is for messages.
    ///
    /// # Errors
    ///
    /// As [`RunConfig::load`].
    pub fn parse(path: &Path, text: &str, overrides: &Overrides) -> Result<Self, ConfigError> {
        load::parse(path, text, overrides, Self::problems)
    }

    /// Returns the config as TOML, as a run stores it. A comment names the program and the version of
    /// the format.
    ///
    /// # Panics
    ///
    /// Never: every value of a config has a form in TOML.
    pub fn to_toml(&self) -> String {
        let text = toml::to_string(self).expect("every value of a config has a form in TOML");
        format!("# Written by {PROGRAM}, format {FORMAT}.\n{text}")
    }
}

/// Reads the config `name` of `folder`. Returns its path or URL, and its text.
pub(crate) fn read_in(folder: &Folder, name: &str) -> Result<(PathBuf, String), Error> {
    let path = PathBuf::from(folder.url_of(name));
    let text = folder.read(name)?.ok_or_else(|| ConfigError::Io {
        path: path.clone(),
        source: std::io::ErrorKind::NotFound.into(),
    })?;
    Ok((path, String::from_utf8_lossy(&text).into_owned()))
}
