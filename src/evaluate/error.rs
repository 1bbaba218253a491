//! Errors of evaluating an encoder.

use crate::checkpoint::pretrained::PretrainedError;
use crate::exit_code::{ExitCode, FAILED, USAGE};
use crate::model::VocabularyError;

/// Why a run cannot be evaluated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunEvaluateError {
    /// The encoder cannot be loaded.
    #[error(transparent)]
    Pretrained(#[from] PretrainedError),
    /// The datasets cannot be used.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
}

impl ExitCode for RunEvaluateError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Pretrained(error) => error.exit_code(),
            Self::Evaluate(error) => error.exit_code(),
        }
    }
}

/// Why an encoder cannot be evaluated on these datasets.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluateError {
    /// `--frames` was given for a dataset that is not audio.
    #[error("unsupported option: --frames: only for audio")]
    NoFrames,
    /// There is no validation set.
    #[error(
        "no validation set: data.val is not set\n\
         hint: --set data.val=URL names a labelled dataset apart from data.train"
    )]
    NoVal,
    /// The classifiers would be fitted to several datasets.
    #[error(
        "unsupported mixture of datasets: data.train\n\
         hint: --set data.train=URL names one labelled dataset"
    )]
    Mix,
    /// The dataset was written without labels.
    #[error(
        "no labels: {url}\n\
         hint: write it from class folders, or name its label column with --set \
         data.columns.label=NAME"
    )]
    NoLabels {
        /// Path or URL of the dataset.
        url: String,
    },
    /// A label is not the number of a class.
    #[error("invalid label: {url}: row {row}: label {label} is out of range ({})", allowed(*.n_classes))]
    Label {
        /// Path or URL of the dataset.
        url: String,
        /// Number of the row among all rows of the dataset.
        row: u64,
        /// Value of the label.
        label: i64,
        /// Number of classes that the dataset names, if it does.
        n_classes: Option<usize>,
    },
    /// The datasets number their classes differently.
    #[error(
        "class names differ: {train} and {val}: {reason}\n\
         hint: write one of them with `--labels` of the other"
    )]
    ClassesDiffer {
        /// Path or URL of the training set.
        train: String,
        /// Path or URL of the validation set.
        val: String,
        /// Description of the first difference.
        reason: String,
    },
    /// No row of the dataset could be used.
    #[error("no usable sample in dataset: {url}")]
    Empty {
        /// Path or URL of the dataset.
        url: String,
    },
    /// The texts have another vocabulary than the model.
    #[error(transparent)]
    Vocabulary(#[from] VocabularyError),
    /// The data pipeline failed.
    #[error(transparent)]
    Data(#[from] understudy_pipelines::Error),
}

impl ExitCode for EvaluateError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::NoFrames | Self::NoVal | Self::Mix => USAGE,
            Self::Data(error) => error.exit_code(),
            _ => FAILED,
        }
    }
}

fn allowed(n_classes: Option<usize>) -> String {
    match n_classes {
        Some(n) => format!("the dataset names {n} classes: 0 to {}", n as i64 - 1),
        None => "labels count from 0".to_owned(),
    }
}
