//! A model in memory that is to be exported, and the errors of exporting.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::checkpoint::pretrained::{Pretrained, PretrainedError};
use crate::checkpoint::safetensors::{Tensors, WeightsError};
use crate::exit_code::{ExitCode, FAILED};
use crate::model::EncoderConfig;

/// Why a model cannot be exported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// `--weights teacher` was given for a model whose heads were trained on the student's weights.
    #[error("heads were trained on the student's weights: {0}\nhint: use --weights student")]
    TeacherWithHeads(String),
    /// No model can be loaded from the folder.
    #[error(transparent)]
    Pretrained(#[from] PretrainedError),
    /// A safetensors file cannot be read or written.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] understudy_pipelines::Error),
    /// A file cannot be read or written.
    #[error("cannot read or write {path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The target folder is not empty.
    #[error("folder is not empty: {0}\nhint: choose a new folder with --to")]
    Taken(PathBuf),
    /// A small file of an imported model is damaged.
    #[error("invalid config: {path}: {reason}")]
    Config {
        /// Path or URL of the file.
        path: String,
        /// The parser's message.
        reason: String,
    },
    /// Hugging Face's class cannot express this model.
    #[error("unsupported by Hugging Face's class: {0}")]
    NoPlace(String),
}

impl ExitCode for ExportError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Pretrained(error) => error.exit_code(),
            Self::Store(error) => error.exit_code(),
            _ => FAILED,
        }
    }
}

/// Result of an export.
#[derive(Debug)]
pub struct Exported {
    /// Path of the new folder.
    pub path: PathBuf,
    /// One sentence on how to load it.
    pub hint: String,
}

/// A model in memory.
pub(super) struct ExportedModel {
    pub(super) pretrained: Pretrained,
    /// Tensors of the encoder and, for data2vec 2.0, of the decoder.
    pub(super) tensors: Tensors,
    /// Tensors of an imported fine-tuned model's heads.
    pub(super) heads: Tensors,
}

impl ExportedModel {
    /// Returns the config of the encoder.
    pub(super) fn encoder(&self) -> EncoderConfig<'_> {
        self.pretrained.config.model.encoder()
    }
}

/// Writes indented JSON.
pub(super) fn write_json(path: &Path, value: &serde_json::Value) -> Result<(), ExportError> {
    let mut text = serde_json::to_string_pretty(value).expect("JSON values are serializable");
    text.push('\n');
    fs::write(path, text).map_err(at(path))
}

/// Adds `path` to an I/O error.
pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> ExportError + '_ {
    move |source| ExportError::Io {
        path: path.to_owned(),
        source,
    }
}
