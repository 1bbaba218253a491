//! Checkpoints in object storage.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use understudy_pipelines::store::Folder;

use super::error::CheckpointError;
use super::layout::{CHECKPOINT_FILES, CONFIG, STATE, checkpoint_dir, checkpoint_step};
use super::local::{TensorFiles, n_bytes, too_little_space};
use super::safetensors;
use super::state::Checkpoint;

/// Files below the folder of a run's checkpoints.
pub(super) struct Listing<'a> {
    checkpoints: &'a Folder,
    /// Paths by step, of complete and incomplete checkpoints.
    files: BTreeMap<u64, Vec<String>>,
}

/// Uploads the tensor files one after the other by way of `staging_dir`, and then the state.
pub(super) fn save(
    checkpoints: &Folder,
    staging_dir: &Path,
    files: &TensorFiles<'_>,
    checkpoint: &Checkpoint,
    may_commit: impl Fn() -> Result<(), CheckpointError>,
) -> Result<(), CheckpointError> {
    Listing::of(checkpoints)?.remove_incomplete()?;
    let target = checkpoints.join(&checkpoint_dir(checkpoint.state.step));
    // The same step again, after a resume: it is incomplete while it is written.
    target.remove(&[STATE.to_owned()])?;
    for (file, tensors) in files {
        let needed_bytes = n_bytes(tensors);
        if let Some(free_bytes) = too_little_space(staging_dir, needed_bytes)? {
            return Err(CheckpointError::StagingSpace {
                path: staging_dir.to_owned(),
                needed_bytes,
                free_bytes,
            });
        }
        let path = staging_dir.join(file);
        let sent = safetensors::write(&path, tensors)
            .map_err(CheckpointError::from)
            .and_then(|()| Ok(target.take_file(file, &path)?));
        if let Err(error) = sent {
            // The first error is the one to report.
            let _ = fs::remove_file(&path);
            return Err(error);
        }
    }
    target.write(CONFIG, checkpoint.config.clone())?;
    // A process that has taken over during the upload has removed these files.
    may_commit()?;
    target.write(STATE, checkpoint.state.to_json())?;
    Ok(())
}

impl<'a> Listing<'a> {
    /// Lists all files below `checkpoints`.
    pub(super) fn of(checkpoints: &'a Folder) -> Result<Self, CheckpointError> {
        let mut files: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        for (path, _) in checkpoints.tree()? {
            let folder = path.split('/').next().unwrap_or_default();
            if let Some(step) = checkpoint_step(folder) {
                files.entry(step).or_default().push(path);
            }
        }
        Ok(Self { checkpoints, files })
    }

    /// Returns the steps of the checkpoints that have all their files.
    pub(super) fn complete(&self) -> BTreeSet<u64> {
        let has_all = |step: u64, files: &[String]| {
            let mut needed = CHECKPOINT_FILES
                .iter()
                .map(|file| format!("{}/{file}", checkpoint_dir(step)));
            needed.all(|file| files.contains(&file))
        };
        let complete = self
            .files
            .iter()
            .filter(|&(&step, files)| has_all(step, files));
        complete.map(|(step, _)| *step).collect()
    }

    /// Removes the checkpoint at `step`, its state first: it is never complete with files missing.
    pub(super) fn remove(&self, step: u64) -> Result<(), CheckpointError> {
        self.checkpoints.remove(&[state_of(step)])?;
        let files = self.files.get(&step).map_or(&[][..], Vec::as_slice);
        Ok(self.checkpoints.remove(files)?)
    }

    /// Removes leftovers of a process that was killed while it saved.
    fn remove_incomplete(&self) -> Result<(), CheckpointError> {
        let complete = self.complete();
        let incomplete = self.files.keys().filter(|step| !complete.contains(step));
        incomplete.copied().try_for_each(|step| self.remove(step))
    }
}

fn state_of(step: u64) -> String {
    format!("{}/{STATE}", checkpoint_dir(step))
}
