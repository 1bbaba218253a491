//! Checkpoints on a local disk.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::error::{CheckpointError, at};
use super::layout::{CHECKPOINT_FILES, CONFIG, STATE, checkpoint_dir, checkpoint_step};
use super::safetensors::{self, Tensors};
use super::state::Checkpoint;

/// Tensor files of a checkpoint: names and contents.
pub(super) type TensorFiles<'a> = [(&'static str, &'a Tensors); 3];

/// Writes a checkpoint under another name below `folder`, syncs and renames it.
pub(super) fn save(
    folder: &Path,
    files: &TensorFiles<'_>,
    checkpoint: &Checkpoint,
) -> Result<(), CheckpointError> {
    create_dir(folder)?;
    let needed_bytes = files.iter().map(|(_, tensors)| n_bytes(tensors)).sum();
    clear_partial(folder)?;
    if let Some(free_bytes) = too_little_space(folder, needed_bytes)? {
        return Err(CheckpointError::Space {
            path: folder.to_owned(),
            needed_bytes,
            free_bytes,
        });
    }

    let name = checkpoint_dir(checkpoint.state.step);
    let partial = folder.join(format!("{name}.partial"));
    let target = folder.join(name);
    create_dir(&partial)?;
    let written = write_files(&partial, files, checkpoint).and_then(|()| {
        // The same step again, after a resume: the same content.
        if target.exists() {
            fs::remove_dir_all(&target).map_err(at(&target))?;
        }
        fs::rename(&partial, &target).map_err(at(&target))?;
        sync(folder)
    });
    if written.is_err() {
        // The first error is the one to report; the next save removes leftovers.
        let _ = fs::remove_dir_all(&partial);
    }
    written
}

fn write_files(
    partial: &Path,
    files: &TensorFiles<'_>,
    checkpoint: &Checkpoint,
) -> Result<(), CheckpointError> {
    for (file, tensors) in files {
        let path = partial.join(file);
        safetensors::write(&path, tensors)?;
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

/// Returns the steps of the complete checkpoints in `folder`; a missing folder has none.
pub(super) fn list(folder: &Path) -> Result<BTreeSet<u64>, CheckpointError> {
    // Checkpoints are renamed when complete; a copy of one may be incomplete.
    let complete = checkpoint_dirs(folder)?.into_iter();
    let complete = complete.filter(|(_, path)| missing_file(path).is_none());
    Ok(complete.map(|(step, _)| step).collect())
}

/// Returns the checkpoints in `folder` that lack a file, each with the name of that file.
pub(super) fn damaged(folder: &Path) -> Result<Vec<(PathBuf, &'static str)>, CheckpointError> {
    let mut found: Vec<_> = checkpoint_dirs(folder)?
        .into_iter()
        .filter_map(|(_, path)| missing_file(&path).map(|file| (path, file)))
        .collect();
    found.sort();
    Ok(found)
}

/// Removes the checkpoint at `step`.
pub(super) fn remove(folder: &Path, step: u64) -> Result<(), CheckpointError> {
    let path = folder.join(checkpoint_dir(step));
    fs::remove_dir_all(&path).map_err(at(&path))
}

/// Returns step and path of every entry with a checkpoint's name, complete or not.
fn checkpoint_dirs(folder: &Path) -> Result<Vec<(u64, PathBuf)>, CheckpointError> {
    let mut found = Vec::new();
    if !folder.exists() {
        return Ok(found);
    }
    for entry in fs::read_dir(folder).map_err(at(folder))? {
        let entry = entry.map_err(at(folder))?;
        if let Some(step) = entry.file_name().to_str().and_then(checkpoint_step) {
            found.push((step, entry.path()));
        }
    }
    Ok(found)
}

fn missing_file(path: &Path) -> Option<&'static str> {
    CHECKPOINT_FILES
        .into_iter()
        .find(|file| !path.join(file).exists())
}

/// Returns the size of all tensors in bytes.
pub(super) fn n_bytes(tensors: &Tensors) -> u64 {
    tensors.values().map(|data| data.bytes().len() as u64).sum()
}

/// Removes leftovers of a process that was killed while it saved.
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

/// Returns the free bytes of the disk of `folder`, if they are too few.
pub(super) fn too_little_space(
    folder: &Path,
    needed_bytes: u64,
) -> Result<Option<u64>, CheckpointError> {
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
