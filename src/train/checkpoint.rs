//! Checkpoints: complete, atomic, and readable by anything that reads safetensors.
//!
//! `checkpoints/step-000000500/` holds `student.safetensors`, `teacher.safetensors`,
//! `optimizer.safetensors` (`NAME.m`, `NAME.v`), `config.toml` and `state.json`. The folder is
//! written under another name, synced and renamed, so that it is there in full or not at all. In a
//! store, where nothing can be renamed, `state.json` comes last: what lacks it is no checkpoint.

mod remote;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};
use understudy_pipelines::store::Folder;

use crate::optim::Moments;
use crate::weights::{self, WeightsError};

/// What a checkpoint says beside its tensors. With the plan, nothing else is needed to go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Optimizer steps done; the next step has this number.
    pub step: u64,
    /// Fingerprint of the training set, in hexadecimal.
    pub data_fingerprint: String,
    /// SHA-256 of the vocabulary's files, in hexadecimal, of a run on texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vocabulary_sha256: Option<String>,
    /// Rows of the set that were found to be bad so far.
    pub bad_rows: Vec<u64>,
    /// Rows of the set that were found to be too short so far.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub short_rows: Vec<u64>,
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
    /// There is less room on this machine than a file takes on its way to the store.
    #[error(
        "{path}: a checkpoint's file of {needed_bytes} bytes passes through here and {free_bytes} are free; make room, or name a larger disk in TMPDIR"
    )]
    Passage {
        /// The temporary folder.
        path: PathBuf,
        /// Bytes of the file.
        needed_bytes: u64,
        /// Bytes that are free.
        free_bytes: u64,
    },
    /// The store said no, or another writer has taken the run's lease.
    #[error(transparent)]
    Store(#[from] understudy_pipelines::Error),
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
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}

const STUDENT: &str = "student.safetensors";
const TEACHER: &str = "teacher.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const CONFIG: &str = "config.toml";
const STATE: &str = "state.json";

/// What a whole one has.
const FILES: [&str; 5] = [STUDENT, TEACHER, OPTIMIZER, CONFIG, STATE];

/// Tensors of a checkpoint by name, and the file that holds them.
type Tensors<'a> = [(&'static str, &'a BTreeMap<String, TensorData>); 3];

/// Writes `checkpoint` below `folder`. What goes to a store passes through `passage`, a folder of
/// this machine, file by file, and becomes a checkpoint if `may_commit` still allows it.
pub fn save(
    folder: &Folder,
    passage: &Path,
    checkpoint: &Checkpoint,
    may_commit: impl Fn() -> Result<(), CheckpointError>,
) -> Result<(), CheckpointError> {
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
    match folder.local() {
        Some(folder) => save_here(folder, &tensors, checkpoint),
        None => remote::save(folder, passage, &tensors, checkpoint, may_commit),
    }
}

fn save_here(
    folder: &Path,
    tensors: &Tensors<'_>,
    checkpoint: &Checkpoint,
) -> Result<(), CheckpointError> {
    create_dir(folder)?;
    let needed_bytes = tensors.iter().map(|(_, tensors)| n_bytes(tensors)).sum();
    clear_partial(folder)?;
    if let Some(free_bytes) = too_little_space(folder, needed_bytes)? {
        return Err(CheckpointError::Space {
            path: folder.to_owned(),
            needed_bytes,
            free_bytes,
        });
    }

    let name = folder_name(checkpoint.state.step);
    let partial = folder.join(format!("{name}.partial"));
    let target = folder.join(name);
    create_dir(&partial)?;
    let written = write_files(&partial, tensors, checkpoint).and_then(|()| {
        // The same step again, after a resume: the same content.
        if target.exists() {
            fs::remove_dir_all(&target).map_err(at(&target))?;
        }
        fs::rename(&partial, &target).map_err(at(&target))?;
        sync(folder)
    });
    if written.is_err() {
        // The error that matters is the first one; the next save clears what is left here.
        let _ = fs::remove_dir_all(&partial);
    }
    written
}

fn write_files(
    partial: &Path,
    tensors: &Tensors<'_>,
    checkpoint: &Checkpoint,
) -> Result<(), CheckpointError> {
    for (file, tensors) in tensors {
        let path = partial.join(file);
        weights::write(&path, tensors)?;
        sync(&path)?;
    }
    let state = checkpoint.state.to_json();
    for (file, text) in [(CONFIG, &checkpoint.config), (STATE, &state)] {
        let path = partial.join(file);
        fs::write(&path, text).map_err(at(&path))?;
        sync(&path)?;
    }
    sync(partial)
}

/// Reads the state of the checkpoint in `folder`; `None` if it is no checkpoint, but an imported
/// model say.
pub fn load_state(folder: &Folder) -> Result<Option<State>, CheckpointError> {
    let bytes = folder.read(STATE)?;
    bytes.map(|bytes| parse_state(folder, &bytes)).transpose()
}

fn parse_state(folder: &Folder, json: &[u8]) -> Result<State, CheckpointError> {
    serde_json::from_slice(json).map_err(|error| CheckpointError::State {
        path: folder.url_of(STATE),
        reason: error.to_string(),
    })
}

/// Reads the checkpoint in `folder`.
pub fn load(folder: &Folder) -> Result<Checkpoint, CheckpointError> {
    let text = |name: &str| {
        let bytes = folder.read(name)?.ok_or_else(|| {
            let path = PathBuf::from(folder.url_of(name));
            at(&path)(io::ErrorKind::NotFound.into())
        })?;
        Ok::<_, CheckpointError>(String::from_utf8_lossy(&bytes).into_owned())
    };
    let state = text(STATE)?;
    Ok(Checkpoint {
        state: parse_state(folder, state.as_bytes())?,
        student: weights::read_in(folder, STUDENT)?,
        teacher: weights::read_in(folder, TEACHER)?,
        optimizer: weights::read_in(folder, OPTIMIZER)?,
        config: text(CONFIG)?,
    })
}

/// Whether `folder` is a whole checkpoint.
pub fn is_one(folder: &Folder) -> Result<bool, CheckpointError> {
    Ok(folder.size(STATE)?.is_some())
}

/// The checkpoints below `folder`, oldest first, by step; half-written ones are not among them.
pub fn list(folder: &Folder) -> Result<Vec<(u64, Folder)>, CheckpointError> {
    let steps = match folder.local() {
        Some(folder) => list_here(folder)?,
        None => remote::Listing::of(folder)?.whole(),
    };
    let located = |step| (step, folder.join(&folder_name(step)));
    Ok(steps.into_iter().map(located).collect())
}

fn list_here(folder: &Path) -> Result<BTreeSet<u64>, CheckpointError> {
    let mut found = BTreeSet::new();
    if !folder.exists() {
        return Ok(found);
    }
    for entry in fs::read_dir(folder).map_err(at(folder))? {
        let entry = entry.map_err(at(folder))?;
        let Some(step) = entry.file_name().to_str().and_then(step_of) else {
            continue;
        };
        // Ours are renamed when they are whole; a copy may have been broken off.
        if missing_file(&entry.path()).is_none() {
            found.insert(step);
        }
    }
    Ok(found)
}

fn missing_file(path: &Path) -> Option<&'static str> {
    FILES.into_iter().find(|file| !path.join(file).exists())
}

/// Checkpoints below a folder of this machine that lack a file, each with its name.
pub fn damaged(folder: &Folder) -> Result<Vec<(PathBuf, &'static str)>, CheckpointError> {
    let Some(folder) = folder.local().filter(|folder| folder.exists()) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(at(folder))? {
        let entry = entry.map_err(at(folder))?;
        if entry.file_name().to_str().and_then(step_of).is_some() {
            let path = entry.path();
            found.extend(missing_file(&path).map(|file| (path, file)));
        }
    }
    found.sort();
    Ok(found)
}

/// Removes all but the newest two and those whose step is a multiple of `keep_every_steps`.
pub fn prune(folder: &Folder, keep_every_steps: Option<u64>) -> Result<(), CheckpointError> {
    if let Some(folder) = folder.local() {
        return superseded(list_here(folder)?, keep_every_steps).try_for_each(|step| {
            let path = folder.join(folder_name(step));
            fs::remove_dir_all(&path).map_err(at(&path))
        });
    }
    let listing = remote::Listing::of(folder)?;
    superseded(listing.whole(), keep_every_steps).try_for_each(|step| listing.remove(step))
}

/// Those that need not be kept.
fn superseded(steps: BTreeSet<u64>, keep_every_steps: Option<u64>) -> impl Iterator<Item = u64> {
    let n_old = steps.len().saturating_sub(2);
    let kept = move |step: &u64| keep_every_steps.is_some_and(|every| step.is_multiple_of(every));
    steps
        .into_iter()
        .take(n_old)
        .filter(move |step| !kept(step))
}

impl State {
    fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("strings and numbers always become JSON")
    }
}

impl CheckpointError {
    /// Whether another writer has taken over the run, so that this one must end.
    pub(super) fn is_lost_lease(&self) -> bool {
        matches!(self, Self::Store(understudy_pipelines::Error::Busy { .. }))
    }
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

fn step_of(folder_name: &str) -> Option<u64> {
    folder_name.strip_prefix("step-")?.parse().ok()
}

fn n_bytes(tensors: &BTreeMap<String, TensorData>) -> u64 {
    tensors.values().map(|data| data.bytes().len() as u64).sum()
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

/// The bytes that are free in `folder`, if they are too few.
fn too_little_space(folder: &Path, needed_bytes: u64) -> Result<Option<u64>, CheckpointError> {
    let stat = rustix::fs::statvfs(folder).map_err(|error| at(folder)(error.into()))?;
    let free_bytes = stat.f_bavail * stat.f_frsize;
    // A little room for the small files and the file system's own blocks.
    Ok((free_bytes < needed_bytes + (1 << 20)).then_some(free_bytes))
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
