//! A folder in a store, for those who write: blocking, and every file is there whole or not at all.
//!
//! A file of this machine is written under another name, synced and renamed; in a store it is one
//! PUT, or a multipart upload that counts when it is completed and is aborted when it fails. Nothing
//! here is conditional: some stores ignore conditions in silence.

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

/// A folder, here or in a store. Nothing need exist there yet.
#[derive(Debug, Clone)]
pub struct Folder {
    place: Place,
}

#[derive(Debug, Clone)]
enum Place {
    Local(PathBuf),
    Remote(Arc<Remote>),
}

/// A folder of this machine.
impl From<&Path> for Folder {
    fn from(path: &Path) -> Self {
        let place = Place::Local(path.to_owned());
        Self { place }
    }
}

impl Folder {
    /// Opens a path or URL. Nothing is read or made.
    ///
    /// # Errors
    ///
    /// [`Error::Config`](crate::Error::Config) for what cannot be a folder, or a store without
    /// credentials.
    pub fn open(url_or_path: &str, options: &StoreOptions) -> Result<Self> {
        // What is read here was written a moment ago, or is read once.
        let options = StoreOptions {
            cache: None,
            ..options.clone()
        };
        let location = Location::open_with(url_or_path, &options)?;
        if location.local.is_some() {
            // As it was written: a relative path stays one in messages.
            return Ok(Path::new(&location.url).into());
        }
        Ok(Remote::open(location, &options)?.into())
    }

    /// The folder at `relative` below this one.
    #[must_use]
    pub fn join(&self, relative: &str) -> Self {
        match &self.place {
            Place::Local(folder) => folder.join(relative).as_path().into(),
            Place::Remote(remote) => remote.join(relative).into(),
        }
    }

    /// The folder that this one lies in, and its name there.
    pub fn parent(&self) -> Option<(Self, String)> {
        match &self.place {
            Place::Local(folder) => {
                let name = folder.file_name()?.to_string_lossy().into_owned();
                Some((folder.parent()?.into(), name))
            }
            Place::Remote(remote) => {
                let (parent, name) = remote.parent()?;
                Some((parent.into(), name))
            }
        }
    }

    /// The folder as a person would write it.
    pub fn url(&self) -> String {
        match &self.place {
            Place::Local(folder) => folder.display().to_string(),
            Place::Remote(remote) => remote.url().to_owned(),
        }
    }

    /// What lies at `path` below it, in the same manner.
    pub fn url_of(&self, path: &str) -> String {
        self.join(path).url()
    }

    /// The folder in this machine's file system, if that is where it lies.
    pub fn local(&self) -> Option<&Path> {
        match &self.place {
            Place::Local(folder) => Some(folder),
            Place::Remote(_) => None,
        }
    }

    /// Whether nothing can be written here: on web servers and the Hub.
    pub(super) fn is_read_only(&self) -> bool {
        let url = self.url();
        ["http://", "https://", "hf://"]
            .iter()
            .any(|scheme| url.starts_with(scheme))
    }

    /// The bytes of the small file at `path`, or `None` where there is none.
    pub fn read(&self, path: &str) -> Result<Option<Bytes>> {
        match &self.place {
            Place::Local(folder) => local::read(&folder.join(path)),
            Place::Remote(remote) => remote.read(path),
        }
    }

    /// The bytes of a file of any size, or `None` where there is none.
    pub fn read_large(&self, path: &str) -> Result<Option<Bytes>> {
        match &self.place {
            Place::Local(folder) => local::read(&folder.join(path)),
            Place::Remote(remote) => remote.read_large(path),
        }
    }

    /// [`Self::read`] of several files, in their order.
    pub fn read_all(&self, paths: &[String]) -> Result<Vec<Option<Bytes>>> {
        match &self.place {
            Place::Local(_) => paths.iter().map(|path| self.read(path)).collect(),
            Place::Remote(remote) => remote.read_all(paths),
        }
    }

    /// The size of the file at `path` in bytes, or `None` where there is none.
    pub fn size(&self, path: &str) -> Result<Option<u64>> {
        match &self.place {
            Place::Local(folder) => local::size(&folder.join(path)),
            Place::Remote(remote) => remote.size(path),
        }
    }

    /// Writes a small file, over one that is there.
    pub fn write(&self, path: &str, bytes: impl Into<Bytes>) -> Result<()> {
        let bytes = bytes.into();
        match &self.place {
            Place::Local(folder) => local::write(&folder.join(path), &bytes),
            Place::Remote(remote) => remote.write(path, bytes),
        }
    }

    /// Moves the whole file `from` to `path`; it lies in the same file system if this folder is
    /// local.
    pub fn take_file(&self, path: &str, from: &Path) -> Result<()> {
        match &self.place {
            Place::Local(folder) => local::rename(from, &folder.join(path)),
            Place::Remote(remote) => {
                remote.upload(path, from)?;
                local::remove(from)
            }
        }
    }

    /// Names and sizes in bytes of the files that lie directly in it, sorted.
    pub fn files(&self) -> Result<Vec<(String, u64)>> {
        let mut files = match &self.place {
            Place::Local(folder) => local::files(folder, 1)?,
            Place::Remote(remote) => remote.files()?,
        };
        files.sort();
        Ok(files)
    }

    /// Paths and sizes in bytes of all files in it and below it, sorted.
    pub fn tree(&self) -> Result<Vec<(String, u64)>> {
        let mut files = match &self.place {
            Place::Local(folder) => local::files(folder, usize::MAX)?,
            Place::Remote(remote) => remote.tree()?,
        };
        files.sort();
        Ok(files)
    }

    /// Removes files; those that are not there are no fault.
    pub fn remove(&self, paths: &[String]) -> Result<()> {
        match &self.place {
            Place::Local(folder) => paths
                .iter()
                .try_for_each(|path| local::remove(&folder.join(path))),
            Place::Remote(remote) => remote.remove(paths),
        }
    }
}

impl From<Remote> for Folder {
    fn from(remote: Remote) -> Self {
        let place = Place::Remote(Arc::new(remote));
        Self { place }
    }
}
