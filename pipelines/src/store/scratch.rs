//! Room on this machine for what is on its way to a store, or from it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::{Error, Result};

const PREFIX: &str = "understudy-scratch-";
const LOCK: &str = "lock";

/// A folder of this process below the system's temporary one (`TMPDIR`), gone with this value.
///
/// What a killed process left is removed when the next one makes a folder: its lock died with it.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    _lock: File,
}

impl Scratch {
    /// Makes a new folder.
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
                // A process of the same number, in another container, may share the folder.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => continue,
                made => made.map_err(io)?,
            }
            // Locked before it has the name that tells others to look.
            let unnamed = path.join("lock.new");
            let lock = File::create(&unnamed).map_err(io)?;
            lock.lock().map_err(io)?;
            fs::rename(&unnamed, path.join(LOCK)).map_err(io)?;
            return Ok(Self { path, _lock: lock });
        }
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!("{}: not removed: {error}", self.path.display());
        }
    }
}

/// Removes the folders whose owner is dead. Another user's, say, may stay.
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
    fn what_the_living_use_stays_and_what_the_dead_left_goes() {
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
