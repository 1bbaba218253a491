//! Files on this machine, with the path in each error.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;

use bytes::Bytes;

use crate::{Error, Result};

pub(super) fn read(path: &Path) -> Result<Option<Bytes>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes.into())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(at(path)(source)),
    }
}

pub(super) fn size(path: &Path) -> Result<Option<u64>> {
    match fs::metadata(path) {
        Ok(file) => Ok(Some(file.len())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(at(path)(source)),
    }
}

/// Writes atomically: to a temporary name, which is then renamed.
pub(super) fn write(to: &Path, bytes: &[u8]) -> Result<()> {
    make_parent(to)?;
    let mut temporary = to.as_os_str().to_owned();
    temporary.push(".tmp");
    let write = || {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, to)
    };
    write().map_err(at(to))
}

pub(super) fn rename(from: &Path, to: &Path) -> Result<()> {
    make_parent(to)?;
    fs::rename(from, to).map_err(at(to))
}

pub(super) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(at(path)),
    }
}

/// Lists files at most `depth` levels below `folder`: relative paths and sizes in bytes.
pub(super) fn files(folder: &Path, depth: usize) -> Result<Vec<(String, u64)>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in walkdir::WalkDir::new(folder).max_depth(depth) {
        let entry = entry.map_err(|error| at(folder)(error.into()))?;
        // Links are followed; a broken link is not a file.
        if let Ok(file) = fs::metadata(entry.path())
            && file.is_file()
        {
            let path = entry.path().strip_prefix(folder).unwrap_or(entry.path());
            files.push((path.display().to_string(), file.len()));
        }
    }
    Ok(files)
}

fn make_parent(path: &Path) -> Result<()> {
    match path.parent() {
        Some(parent) => fs::create_dir_all(parent).map_err(at(parent)),
        None => Ok(()),
    }
}

pub(super) fn at(path: &Path) -> impl FnOnce(std::io::Error) -> Error + '_ {
    move |source| Error::Io {
        path: path.to_owned(),
        source,
    }
}
