//! `understudy evaluate`: a run's encoder on the sets that its config names.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};

use super::{EvaluateError, Table, compare};
use crate::config::{ConfigError, RunConfig};
use crate::model::{Media, ModelConfig, Network};
use crate::objective::Data2Vec;
use crate::params::{self, LoadError};
use crate::train::{RunError, find_checkpoint};
use crate::weights::{self, WeightsError};

/// Why a run cannot be evaluated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunEvaluateError {
    /// There is no checkpoint.
    #[error(transparent)]
    Run(#[from] RunError),
    /// Its config, or a `--set`, does not work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its tensors cannot be read.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// Its tensors are not the model's.
    #[error("{path}: {source}")]
    Load {
        /// The checkpoint.
        path: PathBuf,
        /// Which tensor.
        source: LoadError,
    },
    /// The sets.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// The table cannot be written.
    #[error("{path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Compares the encoder at `run` (a run or a checkpoint) with the same one untrained and with raw
/// pixels, and writes the table to the run's folder as `evaluate-step-N-WEIGHTS.json`.
///
/// `weights` is `teacher` or `student`; `set` changes values of the run's config.
pub fn run(
    run: &Path,
    weights: &str,
    set: &[String],
    device: &Device,
) -> Result<Table, RunEvaluateError> {
    let path = find_checkpoint(run)?;
    let mut config = RunConfig::load(&path.join("config.toml"), set)?;
    config.threads.resolve();
    crate::device::set_compute_threads(&config.threads);

    // The teacher of an unlearned run is its student: both are the encoder as it starts.
    let untrained = Data2Vec::initialised(config.model.clone(), config.seed, device).teacher;
    let mut tensors = weights::read(&path.join(format!("{weights}.safetensors")))?;
    // Both are read as a teacher, on the plain device and without what only a student has.
    let teacher = Data2Vec::new(config.model.clone(), device).teacher;
    let names: std::collections::BTreeSet<String> = params::shapes(&teacher)
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    tensors.retain(|name, _| names.contains(name));
    let encoder = params::load(teacher, tensors).map_err(|source| RunEvaluateError::Load {
        path: path.clone(),
        source,
    })?;

    let encoders = vec![
        (
            weights,
            Box::new(|images| pooled(&encoder, &config.model, images))
                as Box<dyn FnMut(Tensor<4>) -> Tensor<2>>,
        ),
        (
            "untrained",
            Box::new(|images| pooled(&untrained, &config.model, images)),
        ),
    ];
    let threads = config.threads.data.unwrap_or(1);
    let table = compare(&config.data, encoders, config.seed, threads, device)?;
    let path = table_path(&path, weights);
    table
        .write(&path)
        .map_err(|source| RunEvaluateError::Write { path, source })?;
    Ok(table)
}

/// `evaluate-step-N-WEIGHTS.json` in the run's folder: a checkpoint may be removed later.
fn table_path(checkpoint: &Path, weights: &str) -> PathBuf {
    let step = checkpoint
        .file_name()
        .map_or_else(|| "step".into(), |name| name.to_string_lossy().into_owned());
    let run = match checkpoint.parent() {
        Some(folder) if folder.ends_with("checkpoints") => folder.parent().unwrap_or(folder),
        _ => checkpoint,
    };
    run.join(format!("evaluate-{step}-{weights}.json"))
}

/// The mean of a picture's patch tokens, `[B, D]`.
fn pooled(network: &Network, config: &ModelConfig, images: Tensor<4>) -> Tensor<2> {
    let features = network.features(config, &Media::Images(images));
    features.mean_dim(1).squeeze_dim(1)
}
