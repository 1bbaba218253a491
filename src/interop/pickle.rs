//! Reads tensor files of other projects: safetensors, and PyTorch's pickles without executing them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::{DType, TensorData};
use pytorch_reader::{PickleValue, PytorchError, PytorchReader};
use serde::Deserialize;
use serde_json::Value;

use super::error::ImportError;
use crate::checkpoint::safetensors::{self, Tensors};

/// Index of a model's weights in several files.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Reads all tensors of a Hugging Face folder, from safetensors where it has both kinds.
pub(super) fn read_folder(folder: &Path) -> Result<Tensors, ImportError> {
    for (file, read) in [
        ("model.safetensors", read_safetensors as fn(&Path) -> _),
        ("pytorch_model.bin", |path| read_pickle(path, None)),
    ] {
        let path = folder.join(file);
        if path.exists() {
            return read(&path);
        }
        let index = folder.join(format!("{file}.index.json"));
        if index.exists() {
            let files = read_json::<Index>(&index)?.weight_map.into_values();
            let files: std::collections::BTreeSet<String> = files.collect();
            let mut tensors = Tensors::new();
            for file in files {
                tensors.extend(read(&folder.join(file))?);
            }
            return Ok(tensors);
        }
    }
    Err(ImportError::NoWeights(folder.to_owned()))
}

fn read_safetensors(path: &Path) -> Result<Tensors, ImportError> {
    Ok(safetensors::read(path)?)
}

/// Reads all tensors of a pickle, or of the dictionary below `key`; names of nested dictionaries are
/// joined by dots.
pub(super) fn read_pickle(path: &Path, key: Option<&str>) -> Result<Tensors, ImportError> {
    let reader = match key {
        Some(key) => PytorchReader::with_top_level_key(path, key),
        None => PytorchReader::new(path),
    };
    let read = reader.map_err(at(path))?.into_tensors();
    let mut tensors = Tensors::new();
    for (name, tensor) in read.into_iter().collect::<BTreeMap<_, _>>() {
        let dtype = match tensor.dtype() {
            pytorch_reader::DType::F64 => DType::F64,
            pytorch_reader::DType::F32 => DType::F32,
            pytorch_reader::DType::F16 => DType::F16,
            pytorch_reader::DType::BF16 => DType::BF16,
            pytorch_reader::DType::I64 => DType::I64,
            pytorch_reader::DType::I32 => DType::I32,
            // Masks and the like, which our models do not have.
            _ => continue,
        };
        let bytes = tensor.read().map_err(|source| ImportError::Io {
            path: path.to_owned(),
            source,
        })?;
        let data = TensorData::from_bytes_vec(bytes, tensor.shape().to_vec(), dtype);
        let data = if dtype.is_float() {
            data.convert::<f32>()
        } else {
            data
        };
        tensors.insert(name, data);
    }
    Ok(tensors)
}

/// Returns whether a pickle is a dictionary with a value other than None below `key`.
pub(super) fn has_key(path: &Path, key: &str) -> Result<bool, ImportError> {
    let value = PytorchReader::read_pickle_data(path, None).map_err(at(path))?;
    Ok(match value {
        PickleValue::Dict(values) => values
            .get(key)
            .is_some_and(|value| *value != PickleValue::None),
        _ => false,
    })
}

/// Reads the values below `key` of a pickle, without tensors; values that JSON cannot hold are null.
pub(super) fn read_pickle_values(path: &Path, key: &str) -> Result<Value, ImportError> {
    let value = PytorchReader::read_pickle_data(path, Some(key)).map_err(at(path))?;
    Ok(to_json(value))
}

fn to_json(value: PickleValue) -> Value {
    match value {
        PickleValue::None | PickleValue::Bytes(_) | PickleValue::Unsupported(_) => Value::Null,
        PickleValue::Bool(value) => value.into(),
        PickleValue::Int(value) => value.into(),
        PickleValue::Float(value) => value.into(),
        PickleValue::String(value) => value.into(),
        PickleValue::List(values) => values.into_iter().map(to_json).collect(),
        PickleValue::Dict(values) => {
            let values = values.into_iter().map(|(key, value)| (key, to_json(value)));
            Value::Object(values.collect())
        }
    }
}

/// Reads the JSON file at `path` as `T`.
pub(super) fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T, ImportError> {
    let text = std::fs::read_to_string(path).map_err(|source| ImportError::Io {
        path: path.to_owned(),
        source,
    })?;
    serde_json::from_str(&text).map_err(|error| ImportError::Config {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

fn at(path: &Path) -> impl FnOnce(PytorchError) -> ImportError + '_ {
    move |error| ImportError::Pickle {
        path: PathBuf::from(path),
        reason: error.to_string(),
    }
}
