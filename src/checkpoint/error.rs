//! Errors of reading and writing checkpoints.

use std::io;
use std::path::{Path, PathBuf};

use super::safetensors::WeightsError;

/// Why a checkpoint could not be found, written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// A local file or folder cannot be read or written.
    #[error("cannot read or write {path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The disk has less free space than the checkpoint takes.
    #[error(
        "not enough disk space for a checkpoint: {path} needs {needed_bytes} bytes and has {free_bytes}\n\
         hint: free some space, or raise `train.keep_every_steps`"
    )]
    Space {
        /// The folder of the checkpoints.
        path: PathBuf,
        /// Bytes that the checkpoint takes.
        needed_bytes: u64,
        /// Bytes that are free.
        free_bytes: u64,
    },
    /// The local disk has less free space than a file takes on its way to object storage.
    #[error(
        "not enough disk space to upload a checkpoint: {path} needs {needed_bytes} bytes and has {free_bytes}\n\
         hint: free some space, or set TMPDIR to a larger disk"
    )]
    StagingSpace {
        /// Path of the temporary folder.
        path: PathBuf,
        /// Bytes of the file.
        needed_bytes: u64,
        /// Bytes that are free.
        free_bytes: u64,
    },
    /// The store failed, or another process has taken the run's lease.
    #[error(transparent)]
    Store(#[from] understudy_pipelines::Error),
    /// A value to be saved is not finite.
    #[error("{0} is not finite; nothing was saved")]
    NotFinite(String),
    /// A tensor file is damaged.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// `state.json` is damaged.
    #[error("invalid checkpoint state: {path}: {reason}")]
    State {
        /// Path or URL of the file.
        path: String,
        /// Description of the damage.
        reason: String,
    },
    /// A newer release wrote the checkpoint in a format that this one cannot read.
    #[error(
        "checkpoint of a newer release: {path} (format {format}, written by {program})\n\
         hint: use that release"
    )]
    Newer {
        /// `state.json`.
        path: String,
        /// Version of its format.
        format: u64,
        /// The program that wrote it.
        program: String,
    },
    /// The name of the checkpoint's folder has another step than its state.
    #[error(
        "checkpoint has another step than the name of its directory: {path} (`state.json` says {step})\n\
         hint: rename it to {name}, or copy the checkpoint again"
    )]
    OtherStep {
        /// Path or URL of the checkpoint.
        path: String,
        /// The step in its state.
        step: u64,
        /// The name for this step.
        name: String,
    },
    /// The folder is neither a checkpoint nor a run with one.
    #[error(
        "no checkpoint found: {0}\nhint: name a run, one of its checkpoints, or an imported model"
    )]
    NotFound(String),
}

impl CheckpointError {
    /// Returns whether another process has taken over the run, so that this one must end.
    pub(crate) fn is_lost_lease(&self) -> bool {
        matches!(self, Self::Store(understudy_pipelines::Error::Busy { .. }))
    }
}

/// Adds `path` to an I/O error.
pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> CheckpointError + '_ {
    move |source| CheckpointError::Io {
        path: path.to_owned(),
        source,
    }
}
