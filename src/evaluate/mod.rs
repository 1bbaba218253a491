//! How good an encoder is without fine-tuning it: k-NN and a linear probe on frozen features,
//! beside the same architecture untrained and beside features without learning: raw pixels,
//! statistics of the log-mel spectrogram, a bag of words.

mod bag_of_words;
pub mod features;
mod knn;
mod lbfgs;
mod log_mel;
mod probe;
mod run;
pub mod table;
mod unlearned;

use burn::tensor::Device;
use serde::Serialize;
use understudy_pipelines::DataConfig;
use understudy_pipelines::batch::Batch;
use understudy_pipelines::config::Modality;

use crate::model::{FeatureVectors, VocabularyError};
use crate::objective::ModelConfig;

pub use features::{Features, Split};
pub use knn::{Knn, knn};
pub use probe::{Probe, probe};
pub use run::{RunEvaluateError, run};
pub use table::{Row, Table};

/// An encoder with the name of its row.
pub type Encoder<'a> = (&'a str, Box<dyn FnMut(Batch) -> FeatureVectors + 'a>);

/// What is classified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Of {
    /// Samples, by what an encoder makes of the whole of each.
    Samples,
    /// Single frames of recordings, each with its recording's label.
    Frames,
}

/// Judges every encoder of the kind `model`, and features without learning after them, on
/// `data.train` and `data.val`.
///
/// Each encoder takes a pass of its own over both sets, so that only one's features are in memory.
/// `threads` decode; `seed` chooses the samples that the probe holds out. All work without gradients
/// is the caller's care: the encoders must hold inner (not autodiff) tensors, and `device` be such.
/// `trained` is the vocabulary of texts that the first encoder knows, as SHA-256 of its files.
pub fn compare(
    (data, model): (&DataConfig, &ModelConfig),
    mut trained: Option<&str>,
    of: Of,
    encoders: Vec<Encoder<'_>>,
    seed: u64,
    threads: usize,
    device: &Device,
) -> Result<Table, EvaluateError> {
    if of == Of::Frames && !matches!(data.modality(), Some(Modality::Audio(_))) {
        return Err(EvaluateError::NoFrames);
    }
    let unlearned = unlearned::unlearned(data, of, threads, device)?;
    let mut table = Table {
        of,
        train: data.train.to_string(),
        val: data.val.clone().unwrap_or_default(),
        n_train: 0,
        n_val: 0,
        n_classes: 0,
        rows: Vec::new(),
    };
    for (name, encode) in encoders.into_iter().chain([unlearned]) {
        let split = features::split((data, model), trained.take(), threads, encode)?;
        table.rows.push(Row::new(name, &split, seed, device));
        (table.n_train, table.n_val) = (split.train.n_samples(), split.val.n_samples());
        table.n_classes = split.n_classes;
    }
    Ok(table)
}

/// Why an encoder cannot be judged on these sets.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluateError {
    /// Frames of what has none.
    #[error("only recordings have frames; leave out --frames")]
    NoFrames,
    /// There is nothing to judge by.
    #[error(
        "data.val: not set; evaluation needs a labelled set apart from data.train \
         (--set data.val=URL)"
    )]
    NoVal,
    /// There are several sets to fit to.
    #[error(
        "data.train: a mix of sets; evaluation fits to one labelled set (--set data.train=URL)"
    )]
    Mix,
    /// The set was written without labels.
    #[error(
        "{url}: no labels; write it from class folders, or name its label column: \
         --set data.columns.label=NAME"
    )]
    NoLabels {
        /// The set.
        url: String,
    },
    /// A label that no class has.
    #[error("{url}: row {row}: label {label} is out of range ({})", allowed(*.n_classes))]
    Label {
        /// The set.
        url: String,
        /// Row number in the whole set.
        row: u64,
        /// What stands there.
        label: i64,
        /// Classes that the set names, if it does.
        n_classes: Option<usize>,
    },
    /// The sets number their classes differently.
    #[error(
        "{train} and {val}: other classes: {reason}; write the one with `--labels` of the other"
    )]
    ClassesDiffer {
        /// The training set.
        train: String,
        /// The validation set.
        val: String,
        /// The first difference.
        reason: String,
    },
    /// No row of the set could be used.
    #[error("{url}: not one good sample")]
    Empty {
        /// The set.
        url: String,
    },
    /// Texts in another vocabulary than the model's.
    #[error(transparent)]
    Vocabulary(#[from] VocabularyError),
    /// The pipeline's own words.
    #[error(transparent)]
    Data(#[from] understudy_pipelines::Error),
}

fn allowed(n_classes: Option<usize>) -> String {
    match n_classes {
        Some(n) => format!("the set names {n} classes: 0 to {}", n as i64 - 1),
        None => "labels count from 0".to_owned(),
    }
}
