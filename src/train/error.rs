//! Errors of a training run.

use std::path::PathBuf;

use understudy_pipelines::Error as StoreError;
use understudy_pipelines::store::Folder;

use super::guard::Failure;
use crate::checkpoint::CheckpointError;
use crate::checkpoint::safetensors::WeightsError;
use crate::config::ConfigError;
use crate::exit_code::{DIVERGED, ExitCode, FAILED, USAGE};
use crate::model::VocabularyError;
use crate::objective::MaskError;
use crate::params::LoadError;

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The run directory, or the checkpoint to resume from, cannot be used.
    #[error(transparent)]
    Run(#[from] RunError),
    /// Weights or state to start from do not fit.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The data pipeline failed.
    #[error(transparent)]
    Data(#[from] understudy_pipelines::Error),
    /// The pipeline ended before the run did.
    #[error("no usable sample left in the dataset: step {0}")]
    OutOfData(u64),
    /// A step had no usable sample.
    #[error(
        "no usable sample in step {0}: all were bad or had no masked position\n\
         hint: quarantine.jsonl in the run directory lists the bad samples"
    )]
    BadStep(u64),
    /// The device failed in the middle of an update.
    #[error("weights are half updated and cannot be saved: step {0}")]
    Torn(u64),
    /// The device has too little memory for a micro-batch or for the optimizer.
    #[error(
        "out of device memory: step {step}: {reason}\n\
         hint: raise `train.micro_batches` and resume; where `data.lanes` allows no more, start a \
         run with more lanes or a smaller batch"
    )]
    OutOfMemory {
        /// Optimizer steps done before the failure.
        step: u64,
        /// The device's message.
        reason: String,
    },
    /// The device could not compute a step.
    #[error(
        "device failed: step {step}: {reason}\n\
         hint: `understudy doctor` tests the devices; if they pass, please report this"
    )]
    Device {
        /// Optimizer steps done before the failure.
        step: u64,
        /// The device's message.
        reason: String,
    },
    /// The dataset's tokens do not fit the model.
    #[error(transparent)]
    Vocabulary(#[from] VocabularyError),
    /// The objective cannot use the masks.
    #[error(transparent)]
    Masks(#[from] MaskError),
    /// The run diverged or collapsed.
    #[error(transparent)]
    Failure(#[from] Failure),
    /// The last checkpoint of a run, or one that a signal asked for, could not be saved.
    #[error("cannot save a checkpoint, the previous one is kept: {0}")]
    Save(#[from] CheckpointError),
}

impl TrainError {
    /// Distinguishes a full device memory from other device failures, on the CPU and on a GPU.
    pub(super) fn of_device(step: u64, reason: String) -> Self {
        let is_full = ["out of memory", "allocate memory"];
        if is_full.iter().any(|words| reason.contains(words)) {
            Self::OutOfMemory { step, reason }
        } else {
            Self::Device { step, reason }
        }
    }
}

impl ExitCode for TrainError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Failure(_) => DIVERGED,
            Self::Data(error)
            | Self::Run(RunError::Store(error))
            | Self::Start(StartError::Init(error) | StartError::Run(RunError::Store(error))) => {
                error.exit_code()
            }
            Self::Start(StartError::Config(error)) => error.exit_code(),
            Self::Start(StartError::Schedule(_)) => USAGE,
            _ => FAILED,
        }
    }
}

/// Why a run cannot start from the weights or the checkpoint that it was given.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The checkpoint to resume from is damaged.
    #[error(
        "cannot resume from this checkpoint: {path}: {source}\n\
         hint: delete it to resume from the previous one"
    )]
    Damaged {
        /// Path or URL of the checkpoint.
        path: String,
        /// Description of the damage.
        source: Box<CheckpointError>,
    },
    /// The store of the checkpoint failed, or `init` names no checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The checkpoint has another config or other data.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The checkpoint's config cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The checkpoint's tensors do not fit the model.
    #[error("cannot load weights: {path}: {source}")]
    Load {
        /// Path or URL of the checkpoint.
        path: String,
        /// The tensor that does not fit.
        source: LoadError,
    },
    /// `init` does not name a folder.
    #[error("cannot open `init`: {0}")]
    Init(understudy_pipelines::Error),
    /// `init` names a model with other settings than its tensors show.
    #[error(
        "cannot start from `init`: {path}: its model differs (there → here):\n{}\n\
         hint: give these keys the values that they have there", .differences.join("\n")
    )]
    OtherModel {
        /// The checkpoint or imported model.
        path: String,
        /// `key: there → here`, one each.
        differences: Vec<String>,
    },
    /// A new run is too short for its learning-rate schedule.
    #[error("{0}")]
    Schedule(String),
    /// The optimizer state does not fit the model.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}

impl StartError {
    /// Distinguishes a damaged checkpoint from a failure of the store, and from a checkpoint that this
    /// release cannot read.
    pub(super) fn unreadable(checkpoint: &Folder, error: CheckpointError) -> Self {
        match error {
            CheckpointError::Store(_)
            | CheckpointError::Weights(WeightsError::Store(_))
            | CheckpointError::Newer { .. }
            | CheckpointError::OtherStep { .. } => Self::Checkpoint(error),
            source => Self::Damaged {
                path: checkpoint.url(),
                source: Box::new(source),
            },
        }
    }
}

/// Why a run directory cannot be opened, or its checkpoint not be resumed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The file system or the store failed.
    #[error(transparent)]
    Store(StoreError),
    /// Another process trains this run.
    #[error(
        "another process is training this run: {url} ({holder})\n\
         hint: wait, or start another run with --run"
    )]
    Busy {
        /// Path or URL of the run.
        url: String,
        /// The process that trains it.
        holder: String,
    },
    /// A run with checkpoints would be started again.
    #[error(
        "cannot start: this run already has checkpoints: {0}\n\
         hint: --resume auto resumes it, --run starts another one"
    )]
    Started(String),
    /// The checkpoint was trained with another config.
    #[error(
        "cannot resume: config differs from the checkpoint's: {path}\n{}\n\
         hint: --run starts a new run; `init` starts from these weights", .differences.join("\n")
    )]
    Incompatible {
        /// Path or URL of the checkpoint.
        path: String,
        /// `key: then → now`, one each.
        differences: Vec<String>,
    },
    /// The checkpoint was trained with other settings of the optimizer, and with no others.
    #[error(
        "cannot resume: optimizer settings differ from the checkpoint's: {path}\n{}\n\
         hint: --allow optim resumes with them and keeps the teacher and the optimizer's moments",
        .differences.join("\n")
    )]
    OtherOptimizer {
        /// Path or URL of the checkpoint.
        path: String,
        /// `key: then → now`, one each.
        differences: Vec<String>,
    },
    /// The steps to leave out do not follow the checkpoint.
    #[error(
        "cannot skip to step {step}: {reason}\n\
         hint: --skip-to takes a step after the checkpoint that a run resumes from"
    )]
    SkipTo {
        /// Value of `--skip-to`.
        step: u64,
        /// Reason why the run cannot skip to it.
        reason: String,
    },
    /// The checkpoint was trained on other data.
    #[error(
        "cannot resume: the checkpoint was trained on other data: {path} (fingerprint {then}; {url} has {now})\n\
         hint: set data.train to a copy of that dataset, or start a new run with --run"
    )]
    OtherData {
        /// Path or URL of the checkpoint.
        path: String,
        /// The dataset of this config.
        url: String,
        /// Fingerprint in the checkpoint.
        then: String,
        /// Fingerprint of the dataset.
        now: String,
    },
    /// The run has checkpoints, and none is complete.
    #[error(
        "cannot resume: {file} is missing and no other checkpoint is complete: {}\n\
         hint: copy the checkpoint again, or start a new run with --run", .path.display()
    )]
    Damaged {
        /// Path of the newest checkpoint.
        path: PathBuf,
        /// The file that it lacks.
        file: &'static str,
    },
    /// The checkpoint was trained with another vocabulary.
    #[error(
        "cannot resume: the checkpoint was trained with another vocabulary: {path}\n\
         hint: set data.text.tokenizer to a copy of that vocabulary"
    )]
    OtherVocabulary {
        /// Path or URL of the checkpoint.
        path: String,
    },
    /// A checkpoint cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

impl From<StoreError> for RunError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Busy { url, holder } => Self::Busy { url, holder },
            error => Self::Store(error),
        }
    }
}
