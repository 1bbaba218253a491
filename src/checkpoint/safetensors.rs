//! Named tensors in safetensors files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::{DType, TensorData};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use understudy_pipelines::store::Folder;

/// Tensors by dotted parameter name.
pub type Tensors = BTreeMap<String, TensorData>;

/// Why a tensor file could not be written, read or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// The file cannot be read or written.
    #[error("cannot read or write {path}: {source}")]
    Io {
        /// Path of the file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The file is not safetensors, or damaged.
    #[error("invalid safetensors file: {path}: {reason}")]
    Damaged {
        /// Path of the file.
        path: PathBuf,
        /// The reader's message.
        reason: String,
    },
    /// The element type of a tensor is not supported.
    #[error(
        "unsupported element type: tensor `{name}` of {path} is {found}\n\
         hint: float32, float16, bfloat16, int64 and int32 are supported"
    )]
    Type {
        /// Path of the file.
        path: PathBuf,
        /// Name of the tensor.
        name: String,
        /// Element type of the tensor.
        found: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] understudy_pipelines::Error),
    /// A parameter has no tensor.
    #[error("missing tensor `{0}`")]
    Missing(String),
    /// A tensor belongs to no parameter.
    #[error("unexpected tensor `{0}`: no parameter has this name")]
    Unexpected(String),
}

/// Writes float32 and integer tensors to `path`.
pub fn write(path: &Path, tensors: &Tensors) -> Result<(), WeightsError> {
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
            // Counters, such as a batch norm's number of batches.
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
    // The library renames a temporary file that only its owner can read: give the result the
    // permissions of any new file in this folder.
    let set_permissions = || {
        let probe = path.with_extension("rights");
        let made = std::fs::File::create(&probe)?.metadata();
        std::fs::remove_file(&probe)?;
        std::fs::set_permissions(path, made?.permissions())
    };
    set_permissions().map_err(|source| WeightsError::Io {
        path: path.to_owned(),
        source,
    })
}

/// Reads every tensor of `path`: float16 and bfloat16 as float32, integers as they are.
pub fn read(path: &Path) -> Result<Tensors, WeightsError> {
    let bytes = std::fs::read(path).map_err(|source| WeightsError::Io {
        path: path.to_owned(),
        source,
    })?;
    parse(path, &bytes)
}

/// [`read`]s the file `name` of a local folder or one in object storage.
pub fn read_in(folder: &Folder, name: &str) -> Result<Tensors, WeightsError> {
    let path = PathBuf::from(folder.url_of(name));
    match folder.read_large(name)? {
        Some(bytes) => parse(&path, &bytes),
        None => Err(WeightsError::Io {
            path,
            source: std::io::ErrorKind::NotFound.into(),
        }),
    }
}

/// Parses a safetensors file; `path` is for messages.
fn parse(path: &Path, bytes: &[u8]) -> Result<Tensors, WeightsError> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| WeightsError::Damaged {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    let mut tensors = Tensors::new();
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
