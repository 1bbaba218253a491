//! Errors of importing models.

use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::checkpoint::pretrained::PretrainedError;
use crate::checkpoint::safetensors::WeightsError;
use crate::exit_code::{ExitCode, FAILED};

/// Why a model could not be imported.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The project's models have no such parameter.
    #[error("unknown parameter, no data2vec model has it: {0}")]
    UnknownName(String),
    /// A query, key or value matrix is missing.
    #[error("incomplete attention matrix: {name} has {found} of query, key and value")]
    IncompleteMatrix {
        /// Name in our models.
        name: String,
        /// Number of matrices found, of three.
        found: usize,
    },
    /// Query, key and value do not fit together.
    #[error("query, key and value differ in shape or are not float32: {0}")]
    UnequalQkv(String),
    /// Our models have no such setting.
    #[error("unsupported setting in config.json: {0}")]
    Unsupported(&'static str),
    /// A file cannot be read or written.
    #[error("cannot read or write {path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A safetensors file cannot be read or written.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A PyTorch checkpoint cannot be read.
    #[error("cannot read PyTorch checkpoint without executing it: {path}: {reason}")]
    Pickle {
        /// Path of the file.
        path: PathBuf,
        /// The reader's message.
        reason: String,
    },
    /// A Hugging Face config cannot be read.
    #[error("invalid config: {path}: {reason}")]
    Config {
        /// Path of the file.
        path: PathBuf,
        /// The parser's message.
        reason: String,
    },
    /// The folder has no weights.
    #[error(
        "no weights found: {0} has neither model.safetensors nor pytorch_model.bin\n\
         hint: download both weights and config.json of the model"
    )]
    NoWeights(PathBuf),
    /// The model is not data2vec.
    #[error(
        "unsupported model type `{name}`: {path}\n\
         hint: data2vec of images, audio and text can be imported: every `Data2Vec…` class of \
         Hugging Face, fairseq's pre-trained models, and those that it fine-tuned for speech \
         recognition (CTC) and, of data2vec 2.0, for sentence and image classification"
    )]
    OtherModel {
        /// Path of the file.
        path: PathBuf,
        /// The model type that it names.
        name: String,
    },
    /// The heads do not belong together.
    #[error("no data2vec class has exactly these heads: {}", .0.join(", "))]
    NoClass(Vec<String>),
    /// The fairseq checkpoint is older than its configs.
    #[error(
        "unsupported fairseq checkpoint, it has `args` in place of `cfg`: {0}\n\
         hint: convert it where fairseq is installed: \
         state = fairseq.checkpoint_utils.load_checkpoint_to_cpu(path); \
         state[\"cfg\"] = omegaconf.OmegaConf.to_container(state[\"cfg\"], resolve=True, enum_to_str=True); \
         torch.save(state, other)"
    )]
    FairseqArgs(PathBuf),
    /// Our models have no such fairseq setting.
    #[error("unsupported fairseq config: {0}")]
    Fairseq(String),
    /// A tensor that determines sizes is missing.
    #[error("missing tensor `{0}`, which determines sizes of the model")]
    NoTensor(String),
    /// The model's sizes are invalid.
    #[error("invalid model sizes:\n{}", .0.join("\n"))]
    Unfit(Vec<String>),
    /// The tensors do not fit the config.
    #[error("tensors do not fit the model's config: {0}")]
    Tensors(Box<PretrainedError>),
    /// The target folder is not empty.
    #[error("folder is not empty: {0}\nhint: choose a new folder with --to")]
    Taken(PathBuf),
}

impl ExitCode for ImportError {
    fn exit_code(&self) -> u8 {
        FAILED
    }
}

/// Adds `path` to an I/O error.
pub(super) fn at(path: &Path) -> impl FnOnce(std::io::Error) -> ImportError + '_ {
    move |source| ImportError::Io {
        path: path.to_owned(),
        source,
    }
}
