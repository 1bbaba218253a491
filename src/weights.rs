//! Tensors by name in safetensors files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::{DType, TensorData};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use understudy_pipelines::store::Folder;

/// Why a file of tensors could not be written, read or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// The file system said no.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not a safetensors file, or a damaged one.
    #[error("{path}: not a whole safetensors file: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The reader's words.
        reason: String,
    },
    /// An element type that is not read.
    #[error("{path}: tensor `{name}` is {found}; float32, float16, bfloat16 and integers are read")]
    Type {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its element type.
        found: String,
    },
    /// A store did not give it.
    #[error(transparent)]
    Store(#[from] understudy_pipelines::Error),
    /// A parameter has no tensor.
    #[error("no tensor for `{0}`")]
    Missing(String),
    /// A tensor belongs to no parameter.
    #[error("tensor `{0}` belongs to no parameter")]
    Unexpected(String),
}

/// Writes float32 tensors, and counters, to `path`.
pub fn write(path: &Path, tensors: &BTreeMap<String, TensorData>) -> Result<(), WeightsError> {
    let damaged = |error: safetensors::SafeTensorError| match error {
        safetensors::SafeTensorError::IoError(source) => WeightsError::Io {
            path: path.to_owned(),
            source,
        },
        error => WeightsError::Damaged {
            path: path.to_owned(),
            reason: error.to_string(),
        },
    };
    let mut views = Vec::with_capacity(tensors.len());
    for (name, data) in tensors {
        let dtype = match data.dtype() {
            DType::F32 => Dtype::F32,
            // Counters, such as the batches that a batch norm has seen.
            DType::I64 => Dtype::I64,
            DType::I32 => Dtype::I32,
            found => {
                return Err(WeightsError::Type {
                    path: path.to_owned(),
                    name: name.clone(),
                    found: format!("{found:?}"),
                });
            }
        };
        let view = TensorView::new(dtype, data.shape().to_vec(), data.bytes()).map_err(damaged)?;
        views.push((name, view));
    }
    safetensors::serialize_to_file(views, None, path).map_err(damaged)?;
    // It comes by a rename, for its owner alone; other files here have the rights that files get.
    let rights = || {
        let probe = path.with_extension("rights");
        let made = std::fs::File::create(&probe)?.metadata();
        std::fs::remove_file(&probe)?;
        std::fs::set_permissions(path, made?.permissions())
    };
    rights().map_err(|source| WeightsError::Io {
        path: path.to_owned(),
        source,
    })
}

/// Reads every tensor of `path`, those of float16 and bfloat16 as float32 and counters as they are.
pub fn read(path: &Path) -> Result<BTreeMap<String, TensorData>, WeightsError> {
    let bytes = std::fs::read(path).map_err(|source| WeightsError::Io {
        path: path.to_owned(),
        source,
    })?;
    parse(path, &bytes)
}

/// [`read`]s the file `name` of a folder, which may lie in a store.
pub fn read_in(folder: &Folder, name: &str) -> Result<BTreeMap<String, TensorData>, WeightsError> {
    let path = PathBuf::from(folder.url_of(name));
    match folder.read_large(name)? {
        Some(bytes) => parse(&path, &bytes),
        None => Err(WeightsError::Io {
            path,
            source: std::io::ErrorKind::NotFound.into(),
        }),
    }
}

/// `path` is for messages.
fn parse(path: &Path, bytes: &[u8]) -> Result<BTreeMap<String, TensorData>, WeightsError> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| WeightsError::Damaged {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.iter() {
        let dtype = match view.dtype() {
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            Dtype::I64 => DType::I64,
            Dtype::I32 => DType::I32,
            found => {
                return Err(WeightsError::Type {
                    path: path.to_owned(),
                    name: name.to_owned(),
                    found: format!("{found:?}"),
                });
            }
        };
        let data = TensorData::from_bytes_vec(view.data().to_vec(), view.shape().to_vec(), dtype);
        let data = if dtype.is_float() {
            data.convert::<f32>()
        } else {
            data
        };
        tensors.insert(name.to_owned(), data);
    }
    Ok(tensors)
}
