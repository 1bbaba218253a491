//! Temporary folders for files on the way to a store, or from it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::{Error, Result};

const PREFIX: &str = "understudy-scratch-";
const LOCK: &str = "lock";

/// A folder of this process below the system's temporary one (`TMPDIR`). It is removed on drop.
///
/// The folder of a killed process is removed when another process makes one: its lock is free.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    _lock: File,
}

impl Scratch {
    /// Makes an empty folder, and removes those of killed processes.
    pub fn new() -> Result<Self> {
        Self::below(&std::env::temp_dir())
    }

    fn below(folder: &Path) -> Result<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        remove_orphans(folder);
        loop {
            let n = MADE.fetch_add(1, Ordering::Relaxed);
            let path = folder.join(format!("{PREFIX}{}-{n}", std::process::id()));
            let io = |source| Error::Io {
                path: path.clone(),
                source,
            };
            match fs::create_dir(&path) {
                // A process with the same id, in another container, may share the folder.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => continue,
                made => made.map_err(io)?,
            }
            // Locked before it has the name that other processes look for.
            let unnamed = path.join("lock.new");
            let lock = File::create(&unnamed).map_err(io)?;
            lock.lock().map_err(io)?;
            fs::rename(&unnamed, path.join(LOCK)).map_err(io)?;
            return Ok(Self { path, _lock: lock });
        }
    }

    /// Returns the folder's path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}

/// Removes the folders of dead processes, where permissions allow it.
fn remove_orphans(folder: &Path) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let Ok(lock) = File::open(entry.path().join(LOCK)) else {
            continue;
        };
        if lock.try_lock().is_ok() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_removes_folders_of_dead_processes_only() {
        let folder = tempfile::tempdir().unwrap();
        let dead = folder.path().join(format!("{PREFIX}1-0"));
        fs::create_dir(&dead).unwrap();
        fs::write(dead.join(LOCK), "").unwrap();
        fs::write(dead.join("shard.tmp"), "half").unwrap();
        let begun = folder.path().join(format!("{PREFIX}2-0"));
        fs::create_dir(&begun).unwrap();
        let foreign = folder.path().join("others");
        fs::create_dir(&foreign).unwrap();

        let first = Scratch::below(folder.path()).unwrap();
        let second = Scratch::below(folder.path()).unwrap();
        assert!(!dead.exists() && begun.exists() && foreign.exists());
        assert!(first.path().exists() && first.path() != second.path());
        let path = first.path().to_owned();
        drop(first);
        assert!(!path.exists() && second.path().exists());
    }
}
