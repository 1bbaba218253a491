//! Checkpoints: complete, atomic, and readable by anything that reads safetensors.
//!
//! `checkpoints/step-000000500/` holds `student.safetensors`, `teacher.safetensors`,
//! `optimizer.safetensors` (`NAME.m`, `NAME.v`), `config.toml` and `state.json`. The folder is
//! written under another name, synced and renamed, so that it is there in full or not at all.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::optim::Moments;
use crate::weights::{self, WeightsError};

/// What a checkpoint says beside its tensors. With the plan, nothing else is needed to go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Optimizer steps done; the next step has this number.
    pub step: u64,
    /// Fingerprint of the training set, in hexadecimal.
    pub data_fingerprint: String,
    /// Rows of the set that were found to be bad so far.
    pub bad_rows: Vec<u64>,
}

/// Everything that a checkpoint holds, on the host.
pub struct Checkpoint {
    /// Step, data and bad rows.
    pub state: State,
    /// Student parameters by name.
    pub student: BTreeMap<String, TensorData>,
    /// Teacher parameters by name.
    pub teacher: BTreeMap<String, TensorData>,
    /// Optimizer moments, as `NAME.m` and `NAME.v`.
    pub optimizer: BTreeMap<String, TensorData>,
    /// The resolved config, as TOML.
    pub config: String,
}

/// Why a checkpoint could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The file system said no.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is less room than the checkpoint takes.
    #[error(
        "{path}: a checkpoint takes {needed_bytes} bytes and {free_bytes} are free; make room or raise `train.keep_every_steps`"
    )]
    Space {
        /// The folder of the checkpoints.
        path: PathBuf,
        /// Bytes that the checkpoint takes.
        needed_bytes: u64,
        /// Bytes that are free.
        free_bytes: u64,
    },
    /// A value that is not a number would have been saved.
    #[error("{0} is not finite; nothing was saved")]
    NotFinite(String),
    /// A file of tensors is damaged.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// `state.json` is damaged.
    #[error("{path}: not a checkpoint's state: {reason}")]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

const STUDENT: &str = "student.safetensors";
const TEACHER: &str = "teacher.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const CONFIG: &str = "config.toml";
const STATE: &str = "state.json";

/// Writes `checkpoint` below `folder` and returns where.
pub fn save(folder: &Path, checkpoint: &Checkpoint) -> Result<PathBuf, CheckpointError> {
    let tensors = [
        (STUDENT, &checkpoint.student),
        (TEACHER, &checkpoint.teacher),
        (OPTIMIZER, &checkpoint.optimizer),
    ];
    for (_, tensors) in tensors {
        for (name, data) in tensors {
            if !data.iter::<f32>().all(f32::is_finite) {
                return Err(CheckpointError::NotFinite(name.clone()));
            }
        }
    }
    create_dir(folder)?;
    let needed_bytes = tensors
        .iter()
        .flat_map(|(_, t)| t.values())
        .map(|d| d.bytes().len() as u64)
        .sum();
    clear_partial(folder)?;
    check_space(folder, needed_bytes)?;

    let name = folder_name(checkpoint.state.step);
    let partial = folder.join(format!("{name}.partial"));
    let target = folder.join(name);
    create_dir(&partial)?;
    let written = write_files(&partial, &tensors, checkpoint).and_then(|()| {
        // The same step again, after a resume: the same content.
        if target.exists() {
            fs::remove_dir_all(&target).map_err(at(&target))?;
        }
        fs::rename(&partial, &target).map_err(at(&target))?;
        sync(folder)
    });
    if let Err(error) = written {
        // The error that matters is the first one; the next save clears what is left here.
        let _ = fs::remove_dir_all(&partial);
        return Err(error);
    }
    Ok(target)
}

fn write_files(
    partial: &Path,
    tensors: &[(&str, &BTreeMap<String, TensorData>)],
    checkpoint: &Checkpoint,
) -> Result<(), CheckpointError> {
    for (file, tensors) in tensors {
        let path = partial.join(file);
        weights::write(&path, tensors)?;
        sync(&path)?;
    }
    let state = serde_json::to_string_pretty(&checkpoint.state).map_err(|error| {
        CheckpointError::State {
            path: partial.join(STATE),
            reason: error.to_string(),
        }
    })?;
    for (file, text) in [(CONFIG, &checkpoint.config), (STATE, &state)] {
        let path = partial.join(file);
        fs::write(&path, text).map_err(at(&path))?;
        sync(&path)?;
    }
    sync(partial)
}

/// Reads the checkpoint in `path`.
pub fn load(path: &Path) -> Result<Checkpoint, CheckpointError> {
    let config_path = path.join(CONFIG);
    Ok(Checkpoint {
        state: load_state(path)?,
        student: weights::read(&path.join(STUDENT))?,
        teacher: weights::read(&path.join(TEACHER))?,
        optimizer: weights::read(&path.join(OPTIMIZER))?,
        config: fs::read_to_string(&config_path).map_err(at(&config_path))?,
    })
}

/// Reads only `state.json` of the checkpoint in `path`.
pub fn load_state(path: &Path) -> Result<State, CheckpointError> {
    let path = path.join(STATE);
    let text = fs::read_to_string(&path).map_err(at(&path))?;
    serde_json::from_str(&text).map_err(|error| CheckpointError::State {
        path,
        reason: error.to_string(),
    })
}

/// The checkpoints below `folder`, oldest first, by step; half-written ones are not among them.
pub fn list(folder: &Path) -> Result<Vec<(u64, PathBuf)>, CheckpointError> {
    let mut found = Vec::new();
    if !folder.exists() {
        return Ok(found);
    }
    for entry in fs::read_dir(folder).map_err(at(folder))? {
        let path = entry.map_err(at(folder))?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if let Some(step) = name
            .strip_prefix("step-")
            .and_then(|step| step.parse().ok())
        {
            found.push((step, path));
        }
    }
    found.sort();
    Ok(found)
}

/// Removes all but the newest two and those whose step is a multiple of `keep_every_steps`.
pub fn prune(folder: &Path, keep_every_steps: Option<u64>) -> Result<(), CheckpointError> {
    let all = list(folder)?;
    let n_old = all.len().saturating_sub(2);
    for (step, path) in &all[..n_old] {
        let kept = keep_every_steps.is_some_and(|every| step.is_multiple_of(every));
        if !kept {
            fs::remove_dir_all(path).map_err(at(path))?;
        }
    }
    Ok(())
}

/// Optimizer moments as tensors of a checkpoint.
pub fn moments_to_tensors(moments: &BTreeMap<String, Moments>) -> BTreeMap<String, TensorData> {
    let mut tensors = BTreeMap::new();
    for (name, Moments { m, v }) in moments {
        tensors.insert(format!("{name}.m"), m.to_data());
        tensors.insert(format!("{name}.v"), v.to_data());
    }
    tensors
}

/// The reverse of [`moments_to_tensors`]; `names` are the parameters that may have moments.
pub fn tensors_to_moments(
    mut tensors: BTreeMap<String, TensorData>,
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

fn folder_name(step: u64) -> String {
    format!("step-{step:09}")
}

/// Removes what a process left that was killed while it saved.
fn clear_partial(folder: &Path) -> Result<(), CheckpointError> {
    for entry in fs::read_dir(folder).map_err(at(folder))? {
        let path = entry.map_err(at(folder))?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "partial")
        {
            fs::remove_dir_all(&path).map_err(at(&path))?;
        }
    }
    Ok(())
}

fn check_space(folder: &Path, needed_bytes: u64) -> Result<(), CheckpointError> {
    let stat = rustix::fs::statvfs(folder).map_err(|error| at(folder)(error.into()))?;
    let free_bytes = stat.f_bavail * stat.f_frsize;
    // A little room for the small files and the file system's own blocks.
    if free_bytes < needed_bytes + (1 << 20) {
        return Err(CheckpointError::Space {
            path: folder.to_owned(),
            needed_bytes,
            free_bytes,
        });
    }
    Ok(())
}

fn create_dir(path: &Path) -> Result<(), CheckpointError> {
    fs::create_dir_all(path).map_err(at(path))
}

fn sync(path: &Path) -> Result<(), CheckpointError> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(at(path))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> CheckpointError + '_ {
    move |source| CheckpointError::Io {
        path: path.to_owned(),
        source,
    }
}
