//! `understudy evaluate`: a run's encoder on the sets that its config names.

use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::Device;
use understudy_pipelines::batch::Batch;

use super::{Encoder, EvaluateError, Table, compare};
use crate::batch;
use crate::config::{ConfigError, RunConfig};
use crate::model::Network;
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

/// Compares the encoder at `run` (a run or a checkpoint) with the same one untrained and with
/// features without learning, and writes the table to the run's folder as `evaluate-step-N-WEIGHTS.json`.
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

    // A teacher may share parts of its student, audio's extractor say: both are read as a student,
    // and what the teacher has of its own takes the place of the student's.
    let mut tensors = weights::read(&path.join("student.safetensors"))?;
    if weights != "student" {
        tensors.extend(weights::read(&path.join(format!("{weights}.safetensors")))?);
    }
    let model = &config.model;
    let empty = Network::student(model, device);
    let encoder = params::load(empty, tensors).map_err(|source| RunEvaluateError::Load {
        path: path.clone(),
        source,
    })?;
    let untrained = Data2Vec::initialised(model.clone(), config.seed, device);
    let untrained = untrained.student.valid();

    let pooled = |network: &Network, batch: Batch| {
        let media = batch::media(batch.media, batch.n_samples, &config.data, device).0;
        network.pooled(model, &media)
    };
    let encoders: Vec<Encoder<'_>> = vec![
        (weights, Box::new(|batch| pooled(&encoder, batch))),
        ("untrained", Box::new(|batch| pooled(&untrained, batch))),
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
