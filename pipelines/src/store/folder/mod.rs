//! A folder in a store, for writers. Calls block, and writes are atomic: readers see a complete file
//! or none.
//!
//! A local file is written under a temporary name, synced and renamed. In a store a file is one PUT,
//! or a multipart upload that takes effect when it is completed and is aborted when it fails. No
//! request is conditional: some stores ignore conditions without an error.

mod local;
mod remote;
#[cfg(test)]
pub(crate) mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use self::remote::Remote;
use super::location::Location;
use super::options::StoreOptions;
use crate::Result;

/// A folder on this machine or in a store. It need not exist yet.
#[derive(Debug, Clone)]
pub struct Folder {
    backend: Backend,
}

#[derive(Debug, Clone)]
enum Backend {
    Local(PathBuf),
    Remote(Arc<Remote>),
}

/// Makes a folder of this machine. Nothing is read or made on disk.
impl From<&Path> for Folder {
    fn from(path: &Path) -> Self {
        let backend = Backend::Local(path.to_owned());
        Self { backend }
    }
}

impl Folder {
    /// Opens a path or URL. Nothing is read or made in the store.
    ///
    /// # Errors
    ///
    /// [`Error::Config`](crate::Error::Config) for an invalid path or URL, or a store without
    /// credentials.
    pub fn open(url_or_path: &str, options: &StoreOptions) -> Result<Self> {
        // No cache: these files were just written, or are read once.
        let options = StoreOptions {
            cache: None,
            ..options.clone()
        };
        let location = Location::open_with(url_or_path, &options)?;
        if location.local.is_some() {
            // The path as the user wrote it: a relative path stays relative in messages.
            return Ok(Path::new(&location.url).into());
        }
        Ok(Remote::open(location, &options)?.into())
    }

    /// Returns the folder at `relative` below this one.
    #[must_use]
    pub fn join(&self, relative: &str) -> Self {
        match &self.backend {
            Backend::Local(folder) => folder.join(relative).as_path().into(),
            Backend::Remote(remote) => remote.join(relative).into(),
        }
    }

    /// Returns the parent folder and this folder's name in it; `None` at the root.
    pub fn parent(&self) -> Option<(Self, String)> {
        match &self.backend {
            Backend::Local(folder) => {
                let name = folder.file_name()?.to_string_lossy().into_owned();
                Some((folder.parent()?.into(), name))
            }
            Backend::Remote(remote) => {
                let (parent, name) = remote.parent()?;
                Some((parent.into(), name))
            }
        }
    }

    /// Returns the folder's path or URL as the user would write it.
    pub fn url(&self) -> String {
        match &self.backend {
            Backend::Local(folder) => folder.display().to_string(),
            Backend::Remote(remote) => remote.url().to_owned(),
        }
    }

    /// Returns the path or URL of `path` below this folder.
    pub fn url_of(&self, path: &str) -> String {
        self.join(path).url()
    }

    /// Returns the path if the folder is on this machine.
    pub fn local(&self) -> Option<&Path> {
        match &self.backend {
            Backend::Local(folder) => Some(folder),
            Backend::Remote(_) => None,
        }
    }

    /// Returns whether the store is read-only: web servers and the Hub.
    pub(super) fn is_read_only(&self) -> bool {
        let url = self.url();
        ["http://", "https://", "hf://"]
            .iter()
            .any(|scheme| url.starts_with(scheme))
    }

    /// Reads the small file at `path` in one request; `None` if there is no such file.
    pub fn read(&self, path: &str) -> Result<Option<Bytes>> {
        match &self.backend {
            Backend::Local(folder) => local::read(&folder.join(path)),
            Backend::Remote(remote) => remote.read(path),
        }
    }

    /// Reads a file of any size, in parts; `None` if there is no such file.
    pub fn read_large(&self, path: &str) -> Result<Option<Bytes>> {
        match &self.backend {
            Backend::Local(folder) => local::read(&folder.join(path)),
            Backend::Remote(remote) => remote.read_large(path),
        }
    }

    /// Reads several files as [`Self::read`] does, in their order.
    pub fn read_all(&self, paths: &[String]) -> Result<Vec<Option<Bytes>>> {
        match &self.backend {
            Backend::Local(_) => paths.iter().map(|path| self.read(path)).collect(),
            Backend::Remote(remote) => remote.read_all(paths),
        }
    }

    /// Returns the size of the file at `path` in bytes; `None` if there is no such file.
    pub fn size(&self, path: &str) -> Result<Option<u64>> {
        match &self.backend {
            Backend::Local(folder) => local::size(&folder.join(path)),
            Backend::Remote(remote) => remote.size(path),
        }
    }

    /// Writes a small file atomically. Replaces an existing one.
    pub fn write(&self, path: &str, bytes: impl Into<Bytes>) -> Result<()> {
        let bytes = bytes.into();
        match &self.backend {
            Backend::Local(folder) => local::write(&folder.join(path), &bytes),
            Backend::Remote(remote) => remote.write(path, bytes),
        }
    }

    /// Moves the local file `from` to `path`. If this folder is local, both must be in the same file
    /// system.
    pub fn take_file(&self, path: &str, from: &Path) -> Result<()> {
        match &self.backend {
            Backend::Local(folder) => local::rename(from, &folder.join(path)),
            Backend::Remote(remote) => {
                remote.upload(path, from)?;
                local::remove(from)
            }
        }
    }

    /// Lists the files directly in this folder: names and sizes in bytes, sorted.
    pub fn files(&self) -> Result<Vec<(String, u64)>> {
        let mut files = match &self.backend {
            Backend::Local(folder) => local::files(folder, 1)?,
            Backend::Remote(remote) => remote.files()?,
        };
        files.sort();
        Ok(files)
    }

    /// Lists all files in this folder and below it: paths and sizes in bytes, sorted.
    pub fn tree(&self) -> Result<Vec<(String, u64)>> {
        let mut files = match &self.backend {
            Backend::Local(folder) => local::files(folder, usize::MAX)?,
            Backend::Remote(remote) => remote.tree()?,
        };
        files.sort();
        Ok(files)
    }

    /// Removes files. Missing ones are not an error.
    pub fn remove(&self, paths: &[String]) -> Result<()> {
        match &self.backend {
            Backend::Local(folder) => paths
                .iter()
                .try_for_each(|path| local::remove(&folder.join(path))),
            Backend::Remote(remote) => remote.remove(paths),
        }
    }
}

impl From<Remote> for Folder {
    fn from(remote: Remote) -> Self {
        let backend = Backend::Remote(Arc::new(remote));
        Self { backend }
    }
}
