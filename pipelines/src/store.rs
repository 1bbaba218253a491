//! Paths and URLs become object stores.

mod folder;
mod lease;
mod scratch;

use std::sync::Arc;

use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

pub use self::folder::Folder;
pub use self::lease::Lease;
pub use self::scratch::Scratch;
use crate::{Error, Result};

/// How a store is used.
#[derive(Debug, Clone, Default)]
pub struct StoreOptions {}

/// A folder or an object in a store.
#[derive(Debug, Clone)]
pub struct Location {
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    /// The folder or object in the store.
    pub prefix: Path,
    /// The same as a person would write it, for messages.
    pub url: String,
    /// The same in this machine's file system, if that is where it lies.
    pub local: Option<std::path::PathBuf>,
}

impl Location {
    /// Opens a path or URL. Nothing is read, and nothing need exist there yet.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a scheme that is not supported, or a path that cannot be one.
    pub fn open(url_or_path: &str) -> Result<Self> {
        let path = match url_or_path.split_once("://") {
            None => std::path::PathBuf::from(url_or_path),
            Some(("file", _)) => url::Url::parse(url_or_path)
                .ok()
                .and_then(|url| url.to_file_path().ok())
                .ok_or_else(|| {
                    Error::Config(vec![format!(
                        "{url_or_path}: not a file URL; write file:///absolute/path"
                    )])
                })?,
            Some((scheme, _)) => {
                return Err(Error::Config(vec![format!(
                    "{url_or_path}: the scheme `{scheme}` is not supported; \
                     supported are local paths and file://"
                )]));
            }
        };
        let io = |source| Error::Io {
            path: path.clone(),
            source,
        };
        // Links are followed where there is something already, so that `..` means what it says.
        let absolute = match path.canonicalize() {
            Ok(absolute) => absolute,
            Err(_) => std::path::absolute(&path).map_err(io)?,
        };
        let prefix = Path::from_absolute_path(&absolute)
            .map_err(|error| Error::Config(vec![format!("{url_or_path}: {error}")]))?;
        let store = Arc::new(LocalFileSystem::new());
        Ok(Self {
            store,
            prefix,
            url: path.display().to_string(),
            local: Some(absolute),
        })
    }

    /// [`Self::open`] with other options than the defaults.
    pub fn open_with(url_or_path: &str, _options: &StoreOptions) -> Result<Self> {
        Self::open(url_or_path)
    }

    /// The object or folder at `relative` below this one, with `/` between folders.
    #[must_use]
    pub fn join(&self, relative: &str) -> Self {
        let parts = relative.split('/').filter(|part| !part.is_empty());
        let prefix = parts.fold(self.prefix.clone(), Path::join);
        let url = format!("{}/{relative}", self.url.trim_end_matches('/'));
        let local = self.local.as_ref().map(|folder| folder.join(relative));
        Self {
            store: self.store.clone(),
            prefix,
            url,
            local,
        }
    }

    /// The whole object, or `None` where there is none.
    pub async fn read(&self) -> Result<Option<bytes::Bytes>> {
        let read = async { self.store.get(&self.prefix).await?.bytes().await };
        match read.await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(self.error(source)),
        }
    }

    /// What the store said, with this place.
    pub fn error(&self, source: object_store::Error) -> Error {
        Error::Store {
            url: self.url.clone(),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_file_urls_are_the_same_place() {
        let path = Location::open("/no/such/a folder").expect("a path");
        let url = Location::open("file:///no/such/a%20folder").expect("a URL");
        assert_eq!(path.prefix, url.prefix);
        assert_eq!(
            path.join("b/c.parquet").prefix.as_ref(),
            "no/such/a folder/b/c.parquet"
        );
        assert_eq!(
            path.join("b/c.parquet").url,
            "/no/such/a folder/b/c.parquet"
        );
    }

    #[test]
    fn an_unsupported_scheme_names_the_supported_ones() {
        let error = Location::open("ftp://host/set")
            .expect_err("no such store")
            .to_string();
        assert!(error.contains("`ftp` is not supported"), "{error}");
        assert!(error.contains("file://"), "{error}");
    }
}
