//! Checkpoints: complete, atomic, and readable by anything that reads safetensors.
//!
//! A local checkpoint is written under another name, synced and renamed: the folder is there in
//! full or not at all. In object storage, where nothing can be renamed, `state.json` is written
//! last: a folder without it is not a checkpoint. [`layout`] has the names.

pub(crate) mod atomic_dir;
mod error;
pub mod find;
pub mod layout;
mod local;
mod object_store;
pub mod pretrained;
pub mod safetensors;
mod state;

pub use error::CheckpointError;
pub use state::{Checkpoint, CheckpointState, WrittenBy, moments_to_tensors, tensors_to_moments};

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use understudy_pipelines::store::Folder;

use error::at;
use layout::{CONFIG, OPTIMIZER, STATE, STUDENT, TEACHER, checkpoint_dir};

/// Writes `checkpoint` below `folder`.
///
/// An upload to object storage passes through `staging_dir`, a local folder, file by file; it
/// becomes a checkpoint only if `may_commit` allows it after the last tensor file.
pub fn save(
    folder: &Folder,
    staging_dir: &Path,
    checkpoint: &Checkpoint,
    may_commit: impl Fn() -> Result<(), CheckpointError>,
) -> Result<(), CheckpointError> {
    let files = [
        (STUDENT, &checkpoint.student),
        (TEACHER, &checkpoint.teacher),
        (OPTIMIZER, &checkpoint.optimizer),
    ];
    for (_, tensors) in files {
        for (name, data) in tensors {
            if !data.iter::<f32>().all(f32::is_finite) {
                return Err(CheckpointError::NotFinite(name.clone()));
            }
        }
    }
    match folder.local() {
        Some(folder) => local::save(folder, &files, checkpoint),
        None => object_store::save(folder, staging_dir, &files, checkpoint, may_commit),
    }
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
        state: CheckpointState::from_json(folder, &folder.url_of(STATE), state.as_bytes())?,
        student: safetensors::read_in(folder, STUDENT)?,
        teacher: safetensors::read_in(folder, TEACHER)?,
        optimizer: safetensors::read_in(folder, OPTIMIZER)?,
        config: text(CONFIG)?,
    })
}

/// Reads the state of the checkpoint in `folder`; `None` where there is none, as in an imported
/// model.
pub fn load_state(folder: &Folder) -> Result<Option<CheckpointState>, CheckpointError> {
    let bytes = folder.read(STATE)?;
    bytes
        .map(|bytes| CheckpointState::from_json(folder, &folder.url_of(STATE), &bytes))
        .transpose()
}

/// Returns the complete checkpoints below `folder` with their steps, oldest first.
pub fn list(folder: &Folder) -> Result<Vec<(u64, Folder)>, CheckpointError> {
    let steps = match folder.local() {
        Some(folder) => local::list(folder)?,
        None => object_store::Listing::of(folder)?.complete(),
    };
    let located = |step| (step, folder.join(&checkpoint_dir(step)));
    Ok(steps.into_iter().map(located).collect())
}

/// Returns the local checkpoints below `folder` that lack a file, each with the name of that file,
/// oldest first.
pub fn damaged(folder: &Folder) -> Result<Vec<(PathBuf, &'static str)>, CheckpointError> {
    folder.local().map_or(Ok(Vec::new()), local::damaged)
}

/// Removes all checkpoints but the newest two and those at multiples of `keep_every_steps`.
pub fn prune(folder: &Folder, keep_every_steps: Option<u64>) -> Result<(), CheckpointError> {
    if let Some(folder) = folder.local() {
        let steps = superseded(local::list(folder)?, keep_every_steps);
        return { steps }.try_for_each(|step| local::remove(folder, step));
    }
    let listing = object_store::Listing::of(folder)?;
    superseded(listing.complete(), keep_every_steps).try_for_each(|step| listing.remove(step))
}

/// Returns the steps whose checkpoints may be removed.
fn superseded(steps: BTreeSet<u64>, keep_every_steps: Option<u64>) -> impl Iterator<Item = u64> {
    let n_old = steps.len().saturating_sub(2);
    let kept = move |step: &u64| keep_every_steps.is_some_and(|every| step.is_multiple_of(every));
    steps
        .into_iter()
        .take(n_old)
        .filter(move |step| !kept(step))
}
