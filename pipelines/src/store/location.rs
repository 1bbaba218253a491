//! A folder or an object in a store, named by a path or URL.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use object_store::local::LocalFileSystem;
use object_store::path::{Path, PathPart};
use object_store::{ObjectStore, ObjectStoreExt};

use super::cache::Cache;
use super::local_path::{local_path, real_path};
#[cfg(feature = "http")]
use super::open::open;
use super::options::StoreOptions;
use super::redact::Public;
use super::traffic::{Traffic, TrafficCounts};
use crate::{Error, Result};

/// A folder or an object in a store.
#[derive(Clone)]
pub struct Location {
    /// Client of the store.
    pub store: Arc<dyn ObjectStore>,
    /// Path of the folder or object in the store.
    pub prefix: Path,
    /// Path or URL as the user would write it, for messages.
    pub url: String,
    /// Absolute path, if it is in the local file system.
    pub local: Option<PathBuf>,
    /// Counters of requests and bytes; all 0 for local files.
    pub traffic: Arc<Traffic>,
    /// Whether the store can list a folder. Web servers cannot.
    pub lists: bool,
    /// Local cache of its ranges.
    pub(crate) cache: Option<Arc<Cache>>,
}

/// Written by hand: a client of a store has keys and tokens.
impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Location").field(&Public(&self.url)).finish()
    }
}

impl Location {
    /// Opens a path or URL with [`StoreOptions::default`]. Nothing is read, and it need not exist
    /// yet.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for an unsupported scheme, an invalid path, or a store without credentials.
    pub fn open(url_or_path: &str) -> Result<Self> {
        Self::open_with(url_or_path, &StoreOptions::default())
    }

    /// Opens a path or URL: local paths, `file://`, `s3://BUCKET/…`, `gs://BUCKET/…`,
    /// `az://CONTAINER/…`, `https://…` (read only, without listing) and
    /// `hf://datasets/OWNER/NAME[@REV]/…` (read only). Each remote store has a cargo feature.
    ///
    /// # Errors
    ///
    /// The same as those of [`Location::open`].
    pub fn open_with(url_or_path: &str, options: &StoreOptions) -> Result<Self> {
        if let Some((scheme, _)) = url_or_path.split_once("://")
            && scheme != "file"
        {
            let mut location = open(url_or_path, scheme, options)?;
            if let Some(cache) = &options.cache {
                let io = |source| Error::Io {
                    path: cache.folder.clone(),
                    source,
                };
                location.cache = Some(Cache::open(cache.clone()).map_err(io)?);
            }
            return Ok(location);
        }
        let path = local_path(url_or_path)?;
        let io = |source| Error::Io {
            path: path.clone(),
            source,
        };
        let absolute = real_path(&path).map_err(io)?;
        let prefix = Path::from_absolute_path(&absolute)
            .map_err(|error| Error::Config(vec![format!("{url_or_path}: {error}")]))?;
        Ok(Self {
            store: Arc::new(LocalFileSystem::new()),
            prefix,
            url: path.display().to_string(),
            local: Some(absolute),
            traffic: Arc::default(),
            lists: true,
            cache: None,
        })
    }

    /// Returns the counts of requests, bytes and cache hits so far.
    pub fn traffic(&self) -> TrafficCounts {
        let counts = self.cache.as_ref().map(|cache| cache.hits_and_misses());
        let (cache_hits, cache_misses) = counts.unwrap_or_default();
        TrafficCounts {
            cache_hits,
            cache_misses,
            ..self.traffic.counts()
        }
    }

    /// Returns the object or folder at `relative` below this one. `/` separates folders.
    #[must_use]
    pub fn join(&self, relative: &str) -> Self {
        let parts = relative.split('/').filter(|part| !part.is_empty());
        // As they are: the clients encode them in their requests. `.` and `..` are no names.
        let parts = parts.map(|part| PathPart::parse(part).unwrap_or_else(|_| part.into()));
        let prefix = parts.fold(self.prefix.clone(), Path::join);
        let url = format!("{}/{relative}", self.url.trim_end_matches('/'));
        let local = self.local.as_ref().map(|folder| folder.join(relative));
        Self {
            store: self.store.clone(),
            prefix,
            url,
            local,
            traffic: self.traffic.clone(),
            lists: self.lists,
            cache: self.cache.clone(),
        }
    }

    /// Reads all bytes of the object; `None` if there is no such object.
    pub async fn read(&self) -> Result<Option<bytes::Bytes>> {
        let read = async { self.store.get(&self.prefix).await?.bytes().await };
        match read.await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(self.error(source)),
        }
    }

    /// Adds this location to an error of its store.
    pub fn error(&self, cause: object_store::Error) -> Error {
        Error::Store {
            url: self.url.clone(),
            cause,
        }
    }
}

/// Rejects a URL: this build has no remote store.
#[cfg(not(feature = "http"))]
fn open(url_text: &str, scheme: &str, _options: &StoreOptions) -> Result<Location> {
    use super::scheme::{shown, unsupported};
    Err(unsupported(shown(url_text, scheme)?, scheme))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_and_file_url_open_the_same_location() {
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
    fn open_resolves_dots_and_home_in_paths_that_do_not_exist_yet() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("here")).expect("a folder");
        let real = folder.path().canonicalize().expect("a path");
        for (path, expected) in [
            ("here/../new", "new"),
            ("here/none/../../new/set", "new/set"),
            ("./here/new", "here/new"),
        ] {
            let path = folder.path().join(path).display().to_string();
            let location = Location::open(&path).expect("a path");
            assert_eq!(location.local, Some(real.join(expected)));
        }
        let home = std::env::home_dir().expect("a home");
        let location = Location::open("~/no/such").expect("a path");
        assert_eq!(location.url, home.join("no/such").display().to_string());
    }

    #[test]
    fn open_rejects_unsupported_scheme_and_names_the_supported_ones() {
        let error = Location::open("ftp://host/set")
            .expect_err("no such store")
            .to_string();
        assert!(error.contains("unsupported scheme `ftp`"), "{error}");
        assert!(error.contains("file://"), "{error}");
    }
}
