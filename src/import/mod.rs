//! Models of other projects: [`import`] turns a checkpoint into a model that every command reads.
//!
//! Each project's module turns tensors under its names into tensors under ours, ready for
//! `params::load`. What a project stores without need (position indices, fixed positions) is left
//! out; any other name that is not known is an error.

pub mod data2vec_vision;
pub(crate) mod fairseq;
pub mod fairseq1;
pub mod fairseq2;
mod files;
mod folder;
pub(crate) mod fused;
pub mod hugging_face;
pub(crate) mod names;
mod recipe;
mod sizes;

pub use folder::{Imported, import};

use std::collections::BTreeMap;
use std::path::PathBuf;

use burn::tensor::TensorData;
use thiserror::Error;

use crate::pretrained::PretrainedError;
use crate::weights::WeightsError;

/// Why a checkpoint could not be translated.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ImportError {
    /// A name that the project's models do not have.
    #[error("{0} is no parameter of a data2vec model")]
    UnknownName(String),
    /// Part of a matrix is missing.
    #[error("{name} needs its query, key and value parts, {found} of 3 are there")]
    IncompleteMatrix {
        /// Our name.
        name: String,
        /// Parts found.
        found: usize,
    },
    /// Parts of a matrix that do not fit together.
    #[error("the query, key and value parts of {0} differ in shape or are not float32")]
    UnequalParts(String),
    /// A model that ours cannot express.
    #[error("config.json: {0} is not supported")]
    Unsupported(&'static str),
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file of safetensors cannot be read or written.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A PyTorch checkpoint cannot be read.
    #[error("{path}: not a PyTorch checkpoint that can be read without executing it: {reason}")]
    Pickle {
        /// The file.
        path: PathBuf,
        /// The reader's words.
        reason: String,
    },
    /// A Hugging Face config cannot be read.
    #[error("{path}: {reason}")]
    Config {
        /// The file.
        path: PathBuf,
        /// The parser's words.
        reason: String,
    },
    /// A folder without weights.
    #[error(
        "{0}: neither model.safetensors nor pytorch_model.bin is here; download both weights and config.json of the model"
    )]
    NoWeights(PathBuf),
    /// A model of another kind.
    #[error(
        "{path}: a model of type `{name}`; what is read is data2vec of images, audio and text: every `Data2Vec…` class of Hugging Face, fairseq's pre-trained models, and those that it fine-tuned for letters (CTC) and, of 2.0, for sentences and pictures"
    )]
    OtherModel {
        /// The file.
        path: PathBuf,
        /// What it says of itself.
        name: String,
    },
    /// Heads that do not belong together.
    #[error("no class of data2vec has these heads and no others: {}", .0.join(", "))]
    NoClass(Vec<String>),
    /// A fairseq checkpoint of before its configs.
    #[error(
        "{0}: written by a fairseq that had `args` in the place of `cfg`; where fairseq is installed, \
         state = fairseq.checkpoint_utils.load_checkpoint_to_cpu(path), \
         state[\"cfg\"] = omegaconf.OmegaConf.to_container(state[\"cfg\"], resolve=True, enum_to_str=True), \
         and torch.save(state, other) give a file that is read"
    )]
    FairseqArgs(PathBuf),
    /// A fairseq config that ours cannot express.
    #[error("the checkpoint's {0}")]
    Fairseq(String),
    /// A tensor from which sizes follow.
    #[error("no tensor `{0}`, from which the model's sizes follow")]
    NoTensor(String),
    /// Sizes that no config of ours may have.
    #[error("the model's sizes do not make a working config:\n{}", .0.join("\n"))]
    Unfit(Vec<String>),
    /// Tensors that are not those of the config.
    #[error("the tensors are not those of the model's config: {0}")]
    Tensors(Box<PretrainedError>),
    /// Something is there.
    #[error("{0}: not empty; name a new folder")]
    Taken(PathBuf),
}

/// Tensors by name.
pub type Tensors = BTreeMap<String, TensorData>;

/// What becomes of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Name {
    /// Ours.
    Ours(String),
    /// Not stored by us.
    Dropped,
}

/// Renames all tensors.
fn rename(tensors: Tensors, name: impl Fn(&str) -> Option<Name>) -> Result<Tensors, ImportError> {
    let mut renamed = Tensors::new();
    for (theirs, tensor) in tensors {
        match name(&theirs) {
            Some(Name::Ours(ours)) => {
                renamed.insert(ours, tensor);
            }
            Some(Name::Dropped) => {}
            None => return Err(ImportError::UnknownName(theirs)),
        }
    }
    Ok(renamed)
}
