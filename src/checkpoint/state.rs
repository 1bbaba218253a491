//! Contents of a checkpoint.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::error::CheckpointError;
use super::safetensors::{Tensors, WeightsError};
use crate::optim::Moments;

/// Contents of `state.json`. The plan recomputes everything else that resuming needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointState {
    /// Optimizer steps done; the next step has this number.
    pub step: u64,
    /// Fingerprint of the training set, in hexadecimal.
    pub data_fingerprint: String,
    /// SHA-256 of the vocabulary's files, in hexadecimal, of a run on raw texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vocabulary_sha256: Option<String>,
    /// Bad rows of the training set, found so far.
    pub bad_rows: Vec<u64>,
    /// Rows of the training set that are too short, found so far.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub short_rows: Vec<u64>,
}

impl CheckpointState {
    /// Parses `state.json`; `path` is for messages.
    pub(super) fn from_json(path: &str, json: &[u8]) -> Result<Self, CheckpointError> {
        serde_json::from_slice(json).map_err(|error| CheckpointError::State {
            path: path.to_owned(),
            reason: error.to_string(),
        })
    }

    pub(super) fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("strings and numbers always become JSON")
    }
}

/// Contents of a checkpoint in host memory.
pub struct Checkpoint {
    /// Step, data and bad rows.
    pub state: CheckpointState,
    /// Student parameters by name.
    pub student: Tensors,
    /// Teacher parameters by name.
    pub teacher: Tensors,
    /// Optimizer moments, as `NAME.m` and `NAME.v`.
    pub optimizer: Tensors,
    /// The resolved config, as TOML.
    pub config: String,
}

/// Returns the optimizer's moments as tensors `NAME.m` and `NAME.v`.
pub fn moments_to_tensors(moments: &BTreeMap<String, Moments>) -> Tensors {
    let mut tensors = Tensors::new();
    for (name, Moments { m, v }) in moments {
        tensors.insert(format!("{name}.m"), m.to_data());
        tensors.insert(format!("{name}.v"), v.to_data());
    }
    tensors
}

/// Reverses [`moments_to_tensors`]; `names` are the parameters that may have moments.
pub fn tensors_to_moments(
    mut tensors: Tensors,
    names: &[String],
    device: &Device,
) -> Result<BTreeMap<String, Moments>, WeightsError> {
    let mut moments = BTreeMap::new();
    for name in names {
        let m = tensors.remove(&format!("{name}.m"));
        let v = tensors.remove(&format!("{name}.v"));
        match (m, v) {
            (Some(m), Some(v)) => {
                let [m, v] = [m, v].map(|data| Tensor::from_data(data, device));
                moments.insert(name.clone(), Moments { m, v });
            }
            // A parameter that the loss has not reached has none.
            (None, None) => {}
            _ => {
                return Err(WeightsError::Missing(format!(
                    "one of {name}.m and {name}.v"
                )));
            }
        }
    }
    match tensors.into_keys().next() {
        Some(name) => Err(WeightsError::Unexpected(name)),
        None => Ok(moments),
    }
}
