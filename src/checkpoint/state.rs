//! Contents of a checkpoint.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};
use understudy_pipelines::store::Folder;

use super::error::CheckpointError;
use super::layout::{checkpoint_dir, checkpoint_step};
use super::safetensors::{Tensors, WeightsError};
use crate::config::PROGRAM;
use crate::device;
use crate::optim::Moments;

/// Version of the checkpoint format that this release writes, and the newest that it reads.
const FORMAT: u32 = 1;

/// Contents of `state.json`. The plan recomputes everything else that resuming needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointState {
    /// Version of the checkpoint format. The first releases did not write it.
    #[serde(default = "first_format")]
    pub format: u32,
    /// The program that wrote the checkpoint; not in those of the first releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written_by: Option<WrittenBy>,
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

/// The program that wrote a checkpoint, for people; no code depends on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrittenBy {
    /// Name and version.
    pub program: String,
    /// Version of libtorch; none without libtorch, or if it is older than 2.9.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub libtorch: Option<String>,
    /// The device, as `--device` names it.
    pub device: String,
    /// Wall-clock time, in seconds since 1970.
    pub unix_secs: u64,
}

fn first_format() -> u32 {
    1
}

impl WrittenBy {
    /// Describes this program, which trains on `device`, and the time.
    pub(crate) fn now(device: &Device) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            program: PROGRAM.to_owned(),
            libtorch: device::libtorch_version(),
            device: device::name(device),
            unix_secs: since.map_or(0, |since| since.as_secs()),
        }
    }
}

impl CheckpointState {
    /// Returns the state at the start of a run.
    pub(crate) fn start(vocabulary_sha256: Option<String>) -> Self {
        Self {
            format: FORMAT,
            written_by: None,
            step: 0,
            data_fingerprint: String::new(),
            vocabulary_sha256,
            bad_rows: Vec::new(),
            short_rows: Vec::new(),
        }
    }

    /// Returns this state as the program on `device` writes it now.
    pub(crate) fn written_now(&self, device: &Device) -> Self {
        Self {
            format: FORMAT,
            written_by: Some(WrittenBy::now(device)),
            ..self.clone()
        }
    }

    /// Parses the state of the checkpoint in `folder`, whose name must agree with it; `path` is for
    /// messages.
    pub(super) fn from_json(
        folder: &Folder,
        path: &str,
        json: &[u8],
    ) -> Result<Self, CheckpointError> {
        let damaged = |error: serde_json::Error| CheckpointError::State {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        let value: serde_json::Value = serde_json::from_slice(json).map_err(damaged)?;
        // A newer format may have other values: its version is read first.
        if let Some(format) = value["format"].as_u64()
            && format > u64::from(FORMAT)
        {
            let program = value["written_by"]["program"].as_str();
            return Err(CheckpointError::Newer {
                path: path.to_owned(),
                format,
                program: program.unwrap_or("a newer release").to_owned(),
            });
        }
        let state: Self = serde_json::from_value(value).map_err(damaged)?;
        let name = folder.parent().map(|(_, name)| name).unwrap_or_default();
        if checkpoint_step(&name).is_some_and(|step| step != state.step) {
            return Err(CheckpointError::OtherStep {
                path: folder.url(),
                step: state.step,
                name: checkpoint_dir(state.step),
            });
        }
        Ok(state)
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn parse(folder: &str, json: &str) -> Result<CheckpointState, CheckpointError> {
        CheckpointState::from_json(&Path::new(folder).into(), "state.json", json.as_bytes())
    }

    #[test]
    fn state_of_the_first_releases_is_format_1() {
        let old = r#"{"step": 4, "data_fingerprint": "0a", "bad_rows": [7]}"#;
        let state = parse("run/checkpoints/step-000000004", old).expect("a state");
        assert_eq!((state.format, state.step, state.written_by), (1, 4, None));
    }

    #[test]
    fn state_names_its_format_program_and_device() {
        let state = CheckpointState::start(None).written_now(&Device::flex());
        let json = state.to_json();
        let read = parse("anywhere", &json).expect("its own form");
        assert_eq!(read, state);
        let written_by = read.written_by.expect("a program");
        assert_eq!(written_by.device, "flex");
        assert!(written_by.program.starts_with("understudy "));
    }

    #[test]
    fn newer_format_is_rejected_and_unknown_keys_are_not_read() {
        let newer = r#"{"format": 2, "written_by": {"program": "understudy 9.0"}, "step": "4"}"#;
        let error = parse("step-000000004", newer)
            .expect_err("newer")
            .to_string();
        assert!(
            error.contains("format 2, written by understudy 9.0"),
            "{error}"
        );
        let more =
            r#"{"format": 1, "more": {}, "step": 4, "data_fingerprint": "0a", "bad_rows": []}"#;
        assert_eq!(parse("x", more).expect("a state").step, 4);
    }

    #[test]
    fn step_must_be_the_one_of_the_directory() {
        let json = r#"{"step": 4, "data_fingerprint": "0a", "bad_rows": []}"#;
        let error = parse("checkpoints/step-000000009", json).expect_err("another step");
        assert!(
            matches!(error, CheckpointError::OtherStep { step: 4, .. }),
            "{error}"
        );
        // A copy under another name.
        assert!(parse("best", json).is_ok());
    }
}
