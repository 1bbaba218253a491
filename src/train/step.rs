//! One optimizer step: teacher targets, student, loss, backward, optimizer, teacher update.

use std::path::Path;

use burn::tensor::{Device, Tensor};
use understudy_pipelines::batch::Batch;

use crate::config::{ConfigError, RunConfig};
use crate::objective::{Data2Vec, Output};
use crate::optim::{AdamW, Gradients};
use crate::params::LoadError;
use crate::train::checkpoint::{self, Checkpoint, CheckpointError, State};
use crate::train::run::{self, Run, RunError};
use crate::weights::WeightsError;

/// Model, teacher and optimizer between two steps.
pub struct Trainer {
    config: RunConfig,
    device: Device,
    objective: Data2Vec,
    optim: AdamW,
    state: State,
    /// The checkpoint this process went on from.
    resumed: Option<std::path::PathBuf>,
    sums: Sums,
    latest: Option<Latest>,
}

/// What a step adds up over its micro-batches.
#[derive(Default)]
struct Sums {
    gradients: Gradients,
    count: f64,
    loss: Option<Tensor<1>>,
    regression: Option<Tensor<1>>,
    cls: Option<Tensor<1>>,
    output: Option<Output>,
}

/// The last step's numbers, still on the device.
struct Latest {
    step: u64,
    count: f64,
    sums: Sums,
    grad_norm: Tensor<1>,
    lr: f64,
    decay: f64,
}

/// The last step's numbers, on the host.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the fields of `Metrics`, explained there")]
pub struct Reading {
    pub step: u64,
    pub loss: f32,
    pub regression: f32,
    pub cls: Option<f32>,
    pub target_var: f32,
    pub pred_var: f32,
    pub local_var: f32,
    pub grad_norm: f32,
    pub lr: f64,
    pub decay: f64,
}

/// Why a run cannot start from what it was given.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The checkpoint cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// It is of another config, other data, or not there.
    #[error(transparent)]
    Run(#[from] RunError),
    /// Its config cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its tensors are not the model's.
    #[error("{path}: {source}")]
    Load {
        /// The checkpoint.
        path: std::path::PathBuf,
        /// Which tensor.
        source: LoadError,
    },
    /// Its optimizer state is not the model's.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}
