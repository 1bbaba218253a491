//! Names and layouts of other projects' checkpoints.
//!
//! Each module turns tensors under a project's names into tensors under ours, ready for
//! `params::load`. What a project stores without need (position indices, fixed positions) is left
//! out; any other name that is not known is an error.

pub mod data2vec_vision;
pub mod fairseq1;
pub mod fairseq2;
mod fused;
pub mod hugging_face;

use std::collections::BTreeMap;

use burn::tensor::TensorData;
use thiserror::Error;

/// Why a checkpoint could not be translated.
#[derive(Debug, Error, PartialEq, Eq)]
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
