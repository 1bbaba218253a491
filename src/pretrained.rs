//! An encoder to use: of a run, of one of its checkpoints, or imported.
//!
//! All three are a folder with `config.toml` and weights in safetensors. What was imported lacks
//! the optimizer, and may lack a teacher and what turned the student's tokens into predictions.

use burn::module::Module;
use burn::tensor::Device;
use understudy_pipelines::Error;
use understudy_pipelines::store::Folder;

use crate::config::{ConfigError, Overrides, RunConfig};
use crate::import::Tensors;
use crate::model::{AudioEncoder, Encoder, EncoderConfig, Vit1};
use crate::params::{self, LoadError};
use crate::train::{RunError, checkpoint, find_checkpoint};
use crate::weights::{self, WeightsError};

/// The student's file in a checkpoint or an imported model.
pub const STUDENT: &str = "student.safetensors";
/// The teacher's.
pub const TEACHER: &str = "teacher.safetensors";

/// What a fine-tuned model that was imported has behind its encoder.
pub const HEADS: &str = "heads.safetensors";
/// The folder of the small files that an imported Hugging Face model came with.
pub const HUGGING_FACE: &str = "hugging_face";

/// Why there is no encoder to use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PretrainedError {
    /// There is no checkpoint.
    #[error(transparent)]
    Run(#[from] RunError),
    /// Its config, or a `--set`, does not work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its tensors cannot be read.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// It was imported from a file that has none.
    #[error("{0}: this model has no teacher; take --weights student")]
    NoTeacher(String),
    /// A store did not say what is there.
    #[error(transparent)]
    Store(#[from] Error),
    /// Its tensors are not the model's.
    #[error("{path}: {source}")]
    Load {
        /// The checkpoint.
        path: String,
        /// Which tensor.
        source: LoadError,
    },
}

/// Whose weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Whose {
    /// The moving average.
    Teacher,
    /// The one that learns.
    Student,
}

impl Whose {
    /// `teacher` or `student`.
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
    /// The folder itself: a checkpoint's or an imported model's.
    pub folder: Folder,
    /// Its config.
    pub config: RunConfig,
    /// Whose weights are taken.
    pub whose: Whose,
    /// Of the vocabulary that a run on texts was trained in.
    pub vocabulary_sha256: Option<String>,
}

impl Pretrained {
    /// Finds what `folder` is: a model, or a run. `overrides` change its config; without a wish
    /// the weights are the teacher's, or the student's where there is no teacher.
    pub fn open(
        folder: &Folder,
        whose: Option<Whose>,
        overrides: &Overrides,
    ) -> Result<Self, PretrainedError> {
        let folder = find(folder)?;
        let config =
            RunConfig::load_in(&folder, "config.toml", overrides).map_err(|error| match error {
                Error::ConfigFile(error) => PretrainedError::Config(error),
                error => PretrainedError::Store(error),
            })?;
        let has_teacher = folder.size(TEACHER)?.is_some();
        let whose = match whose {
            Some(Whose::Teacher) if !has_teacher => {
                return Err(PretrainedError::NoTeacher(folder.url()));
            }
            Some(whose) => whose,
            None if has_teacher => Whose::Teacher,
            None => Whose::Student,
        };
        let state = checkpoint::load_state(&folder).map_err(RunError::Checkpoint)?;
        Ok(Self {
            folder,
            config,
            whose,
            vocabulary_sha256: state.and_then(|state| state.vocabulary_sha256),
        })
    }

    /// All tensors. A teacher may share parts of its student, audio's extractor say: what the
    /// teacher has of its own takes the place of the student's.
    pub fn tensors(&self) -> Result<Tensors, PretrainedError> {
        let mut tensors = weights::read_in(&self.folder, STUDENT)?;
        if self.whose == Whose::Teacher {
            tensors.extend(weights::read_in(&self.folder, TEACHER)?);
        }
        Ok(tensors)
    }

    /// The encoder on `device`, a plain one.
    pub fn encoder(&self, device: &Device) -> Result<Encoder, PretrainedError> {
        let tensors = encoder_tensors(self.tensors()?);
        let empty = empty(self.config.model.encoder(), &tensors, device);
        params::load(empty, tensors).map_err(|source| PretrainedError::Load {
            path: self.folder.url(),
            source,
        })
    }
}

/// The folder with weights: `folder` itself, or the newest checkpoint of the run there.
pub fn find(folder: &Folder) -> Result<Folder, RunError> {
    if folder.size(STUDENT)?.is_some() {
        return Ok(folder.clone());
    }
    find_checkpoint(folder)
}

/// Those below `encoder.`, without that prefix.
fn encoder_tensors(tensors: Tensors) -> Tensors {
    let own = tensors.into_iter();
    own.filter_map(|(name, tensor)| Some((name.strip_prefix("encoder.")?.to_owned(), tensor)))
        .collect()
}

/// An encoder without values that has what `tensors` have: fine-tuned ones may lack the token that
/// stands for masked positions, and classifiers of images the last norm.
fn empty(config: EncoderConfig<'_>, tensors: &Tensors, device: &Device) -> Encoder {
    match config {
        EncoderConfig::Vit1(config) => {
            let has_mask = tensors.contains_key("mask_token");
            let has_norm = tensors.contains_key("norm.weight");
            Encoder::Vit1(Vit1::with_parts(config, has_mask, has_norm, device))
        }
        EncoderConfig::Audio(config) => {
            let has_mask = tensors.contains_key("mask_emb");
            Encoder::Audio(AudioEncoder::new(config, has_mask, device))
        }
        config => Encoder::new(config, false, device),
    }
    .no_grad()
}
