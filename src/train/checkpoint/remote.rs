//! Checkpoints in a store.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use understudy_pipelines::store::Folder;

use super::{
    CONFIG, Checkpoint, CheckpointError, FILES, STATE, Tensors, folder_name, n_bytes, step_of,
    too_little_space,
};
use crate::weights;

/// The files below the folder of a run's checkpoints.
pub(super) struct Listing<'a> {
    checkpoints: &'a Folder,
    /// Of each step, whole or not.
    files: BTreeMap<u64, Vec<String>>,
}

/// Writes the files of tensors one after the other, each by way of `passage`, and then the state.
pub(super) fn save(
    checkpoints: &Folder,
    passage: &Path,
    tensors: &Tensors<'_>,
    checkpoint: &Checkpoint,
    may_commit: impl Fn() -> Result<(), CheckpointError>,
) -> Result<(), CheckpointError> {
    Listing::of(checkpoints)?.remove_unfinished()?;
    let target = checkpoints.join(&folder_name(checkpoint.state.step));
    // The same step again, after a resume: it is not whole while it is written.
    target.remove(&[STATE.to_owned()])?;
    for (file, tensors) in tensors {
        let needed_bytes = n_bytes(tensors);
        if let Some(free_bytes) = too_little_space(passage, needed_bytes)? {
            return Err(CheckpointError::Passage {
                path: passage.to_owned(),
                needed_bytes,
                free_bytes,
            });
        }
        let path = passage.join(file);
        let sent = weights::write(&path, tensors)
            .map_err(CheckpointError::from)
            .and_then(|()| Ok(target.take_file(file, &path)?));
        if let Err(error) = sent {
            // The error that matters is the first one.
            let _ = fs::remove_file(&path);
            return Err(error);
        }
    }
    target.write(CONFIG, checkpoint.config.clone())?;
    // Sending took its time: another that has taken over meanwhile has removed these files.
    may_commit()?;
    target.write(STATE, checkpoint.state.to_json())?;
    Ok(())
}

impl<'a> Listing<'a> {
    pub(super) fn of(checkpoints: &'a Folder) -> Result<Self, CheckpointError> {
        let mut files: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        for (path, _) in checkpoints.tree()? {
            let folder = path.split('/').next().unwrap_or_default();
            if let Some(step) = step_of(folder) {
                files.entry(step).or_default().push(path);
            }
        }
        Ok(Self { checkpoints, files })
    }

    /// The steps of those that have all their files.
    pub(super) fn whole(&self) -> BTreeSet<u64> {
        let has_all = |step: u64, files: &[String]| {
            let mut needed = FILES
                .iter()
                .map(|file| format!("{}/{file}", folder_name(step)));
            needed.all(|file| files.contains(&file))
        };
        let whole = self
            .files
            .iter()
            .filter(|&(&step, files)| has_all(step, files));
        whole.map(|(step, _)| *step).collect()
    }

    /// Removes one, its state first: it is whole or it is none.
    pub(super) fn remove(&self, step: u64) -> Result<(), CheckpointError> {
        self.checkpoints.remove(&[state_of(step)])?;
        let files = self.files.get(&step).map_or(&[][..], Vec::as_slice);
        Ok(self.checkpoints.remove(files)?)
    }

    /// Removes what a process left that was killed while it saved.
    fn remove_unfinished(&self) -> Result<(), CheckpointError> {
        let whole = self.whole();
        let unfinished = self.files.keys().filter(|step| !whole.contains(step));
        unfinished.copied().try_for_each(|step| self.remove(step))
    }
}

fn state_of(step: u64) -> String {
    format!("{}/{STATE}", folder_name(step))
}
