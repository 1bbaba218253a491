//! Finds the checkpoint in a folder: the folder itself, or the newest one of the run in it.

use understudy_pipelines::store::Folder;

use super::error::CheckpointError;
use super::layout::{CHECKPOINTS, STATE, STUDENT};
use super::list;

/// Returns `folder` if it is a checkpoint, else the newest checkpoint of the run in it.
pub fn find_checkpoint(folder: &Folder) -> Result<Folder, CheckpointError> {
    if folder.size(STATE)?.is_some() {
        return Ok(folder.clone());
    }
    newest(&folder.join(CHECKPOINTS))?.ok_or_else(|| CheckpointError::NotFound(folder.url()))
}

/// Returns `folder` if it has weights (a checkpoint or an imported model), else the newest
/// checkpoint of the run in it.
pub fn find_weights(folder: &Folder) -> Result<Folder, CheckpointError> {
    if folder.size(STUDENT)?.is_some() {
        return Ok(folder.clone());
    }
    find_checkpoint(folder)
}

/// Returns the newest complete checkpoint below `checkpoints`, if any.
pub(crate) fn newest(checkpoints: &Folder) -> Result<Option<Folder>, CheckpointError> {
    Ok(list(checkpoints)?.pop().map(|(_, folder)| folder))
}
