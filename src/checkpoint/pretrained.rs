//! Loads an encoder from a run, one of its checkpoints, or an imported model.
//!
//! All three are a folder with `config.toml` and safetensors. An imported model has no optimizer
//! state, and may have no teacher and no prediction head.

use burn::module::Module;
use burn::tensor::Device;
use understudy_pipelines::store::Folder;

use super::error::CheckpointError;
use super::find::find_weights;
use super::layout::{CONFIG, STUDENT, TEACHER};
use super::load_state;
use super::safetensors::{self, Tensors, WeightsError};
use crate::config::{ConfigError, Overrides, PretrainedConfig};
use crate::exit_code::{ExitCode, FAILED};
use crate::model::{AudioEncoder, Beit, Encoder, EncoderConfig};
use crate::params::{self, LoadError};

/// Why an encoder cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PretrainedError {
    /// The folder has no weights, or its checkpoint is damaged.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Its config, or a `--set`, is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its tensors cannot be read.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// `--weights teacher` was given, and the model has no teacher, such as one imported without it.
    #[error("no teacher in this model: {0}\nhint: use --weights student")]
    NoTeacher(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] understudy_pipelines::Error),
    /// Its tensors do not fit its config.
    #[error("cannot load weights: {path}: {source}")]
    Load {
        /// Path or URL of the checkpoint.
        path: String,
        /// The tensor that does not fit.
        source: LoadError,
    },
}

impl ExitCode for PretrainedError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Config(error) => error.exit_code(),
            Self::Store(error) => error.exit_code(),
            _ => FAILED,
        }
    }
}

/// Weights to use: the teacher's or the student's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Weights {
    /// The moving average of the student.
    Teacher,
    /// The model that gradients update.
    Student,
}

impl Weights {
    /// Returns `teacher` or `student`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Teacher => "teacher",
            Self::Student => "student",
        }
    }
}

/// A folder with an encoder.
#[derive(Debug)]
pub struct Pretrained {
    /// Folder of the weights: a checkpoint or an imported model.
    pub folder: Folder,
    /// Config of the model and its input.
    pub config: PretrainedConfig,
    /// Weights that [`tensors`](Self::tensors) and [`encoder`](Self::encoder) load.
    pub weights: Weights,
    /// SHA-256 of the vocabulary's files, of a run on raw texts.
    pub vocabulary_sha256: Option<String>,
}

impl Pretrained {
    /// Opens the run, checkpoint or imported model in `folder`.
    ///
    /// `set` overrides values of its config. Without `weights` the teacher's are used, or the
    /// student's where there is no teacher.
    pub fn open(
        folder: &Folder,
        weights: Option<Weights>,
        overrides: &Overrides,
    ) -> Result<Self, PretrainedError> {
        let folder = find_weights(folder)?;
        let config =
            PretrainedConfig::load_in(&folder, CONFIG, overrides).map_err(|error| match error {
                understudy_pipelines::Error::ConfigFile(error) => PretrainedError::Config(error),
                error => PretrainedError::Store(error),
            })?;
        let has_teacher = folder.size(TEACHER)?.is_some();
        let weights = match weights {
            Some(Weights::Teacher) if !has_teacher => {
                return Err(PretrainedError::NoTeacher(folder.url()));
            }
            Some(weights) => weights,
            None if has_teacher => Weights::Teacher,
            None => Weights::Student,
        };
        let state = load_state(&folder)?;
        Ok(Self {
            folder,
            config,
            weights,
            vocabulary_sha256: state.and_then(|state| state.vocabulary_sha256),
        })
    }

    /// Reads all tensors. A teacher may share modules with its student, such as the audio feature
    /// extractor: the teacher's own tensors replace the student's.
    pub fn tensors(&self) -> Result<Tensors, PretrainedError> {
        let mut tensors = safetensors::read_in(&self.folder, STUDENT)?;
        if self.weights == Weights::Teacher {
            tensors.extend(safetensors::read_in(&self.folder, TEACHER)?);
        }
        Ok(tensors)
    }

    /// Loads the encoder on `device`, which must be an inner (not autodiff) one.
    pub fn encoder(&self, device: &Device) -> Result<Encoder, PretrainedError> {
        let tensors = encoder_tensors(self.tensors()?);
        let empty = empty(self.config.model.encoder(), &tensors, device);
        params::load(empty, tensors).map_err(|source| PretrainedError::Load {
            path: self.folder.url(),
            source,
        })
    }
}

/// Keeps the tensors below `encoder.` and removes that prefix.
fn encoder_tensors(tensors: Tensors) -> Tensors {
    let own = tensors.into_iter();
    own.filter_map(|(name, tensor)| Some((name.strip_prefix("encoder.")?.to_owned(), tensor)))
        .collect()
}

/// Builds an encoder with the modules that `tensors` have: fine-tuned models may lack the mask
/// token, and image classifiers the last norm.
fn empty(config: EncoderConfig<'_>, tensors: &Tensors, device: &Device) -> Encoder {
    match config {
        EncoderConfig::Beit(config) => {
            let has_mask = tensors.contains_key("mask_token");
            let has_norm = tensors.contains_key("norm.weight");
            Encoder::Beit(Beit::with_parts(config, has_mask, has_norm, device))
        }
        EncoderConfig::Audio(config) => {
            let has_mask = tensors.contains_key("mask_emb");
            Encoder::Audio(AudioEncoder::new(config, has_mask, device))
        }
        config => Encoder::new(config, false, device),
    }
    .no_grad()
}
