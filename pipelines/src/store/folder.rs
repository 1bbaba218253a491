//! A folder in a store, for those who write: blocking, and every object is there whole or not at all.
//!
//! A file of this machine is written under another name, synced and renamed; in a store it is one
//! PUT, or a multipart upload that counts when it is completed and is aborted when it fails. Nothing
//! here is conditional: some stores ignore conditions in silence.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{StreamExt, TryStreamExt};
use object_store::{MultipartUpload, ObjectMeta, ObjectStoreExt, PutPayload};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::lease::Lease;
use super::{Location, StoreOptions};
use crate::{Error, Result};

/// A larger file goes up in parts of this size: at least 5 MiB, and all but the last the same.
const PART_BYTES: u64 = 16 << 20;
/// The most parts that stores take.
const MAX_PARTS: u64 = 10_000;
/// Parts under way at once, each of them in memory.
const PARTS_AT_ONCE: usize = 4;
/// Small requests under way at once.
const REQUESTS_AT_ONCE: usize = 16;

/// A folder, here or in a store. Nothing need exist there yet.
#[derive(Debug, Clone)]
pub struct Folder {
    place: Place,
}

#[derive(Debug, Clone)]
enum Place {
    Local(PathBuf),
    Remote(Location, Arc<Runtime>),
}

/// A folder of this machine.
impl From<&Path> for Folder {
    fn from(path: &Path) -> Self {
        Self {
            place: Place::Local(path.to_owned()),
        }
    }
}

impl Folder {
    /// Opens a path or URL. Nothing is read or made.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for what cannot be a folder.
    pub fn open(url_or_path: &str, options: &StoreOptions) -> Result<Self> {
        let location = Location::open_with(url_or_path, options)?;
        if location.local.is_some() {
            // As it was written: a relative path stays one in messages.
            return Ok(Path::new(&location.url).into());
        }
        Self::remote(location)
    }

    /// The folder at a location that is not this machine's.
    pub(crate) fn remote(location: Location) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("store")
            .enable_all()
            .build()
            .map_err(|source| Error::Io {
                path: PathBuf::from(&location.url),
                source,
            })?;
        Ok(Self {
            place: Place::Remote(location, Arc::new(runtime)),
        })
    }

    /// The folder at `relative` below this one.
    #[must_use]
    pub fn join(&self, relative: &str) -> Self {
        let place = match &self.place {
            Place::Local(folder) => Place::Local(folder.join(relative)),
            Place::Remote(location, runtime) => {
                Place::Remote(location.join(relative), runtime.clone())
            }
        };
        Self { place }
    }

    /// The folder that this one lies in, and its name there.
    pub fn parent(&self) -> Option<(Self, String)> {
        match &self.place {
            Place::Local(folder) => {
                let name = folder.file_name()?.to_string_lossy().into_owned();
                Some((folder.parent()?.into(), name))
            }
            Place::Remote(location, runtime) => {
                let name = location.prefix.filename()?.to_owned();
                let (url, _) = location.url.trim_end_matches('/').rsplit_once('/')?;
                let mut parts: Vec<_> = location.prefix.parts().collect();
                parts.pop();
                let parent = Location {
                    prefix: parts.into_iter().collect(),
                    url: url.to_owned(),
                    ..location.clone()
                };
                let place = Place::Remote(parent, runtime.clone());
                Some((Self { place }, name))
            }
        }
    }

    /// The folder as a person would write it.
    pub fn url(&self) -> String {
        match &self.place {
            Place::Local(folder) => folder.display().to_string(),
            Place::Remote(location, _) => location.url.clone(),
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
            Place::Remote(..) => None,
        }
    }

    /// The bytes of the file at `path`, or `None` where there is none.
    pub fn read(&self, path: &str) -> Result<Option<Bytes>> {
        match &self.place {
            Place::Local(folder) => read_if_there(&folder.join(path)),
            Place::Remote(location, runtime) => runtime.block_on(location.join(path).read()),
        }
    }

    /// [`Self::read`] of several files, in their order.
    pub fn read_all(&self, paths: &[String]) -> Result<Vec<Option<Bytes>>> {
        match &self.place {
            Place::Local(_) => paths.iter().map(|path| self.read(path)).collect(),
            Place::Remote(location, runtime) => {
                let files: Vec<_> = paths.iter().map(|path| location.join(path)).collect();
                let reads = futures::stream::iter(files).map(async |file| file.read().await);
                runtime.block_on(reads.buffered(REQUESTS_AT_ONCE).try_collect())
            }
        }
    }

    /// Writes a small file, over one that is there.
    pub fn write(&self, path: &str, bytes: impl Into<Bytes>) -> Result<()> {
        let bytes = bytes.into();
        match &self.place {
            Place::Local(folder) => write_whole(&folder.join(path), &bytes),
            Place::Remote(location, runtime) => {
                runtime.block_on(put(&location.join(path), bytes.into()))
            }
        }
    }

    /// Moves the whole file `from`, which is of the same file system if this folder is local, to
    /// `path`.
    pub fn take_file(&self, path: &str, from: &Path) -> Result<()> {
        match &self.place {
            Place::Local(folder) => {
                let to = folder.join(path);
                make_parent(&to)?;
                fs::rename(from, &to).map_err(at(&to))
            }
            Place::Remote(location, runtime) => {
                runtime.block_on(upload(&location.join(path), from))?;
                fs::remove_file(from).map_err(at(from))
            }
        }
    }

    /// The size of the file at `path` in bytes, or `None` where there is none.
    pub fn size(&self, path: &str) -> Result<Option<u64>> {
        match &self.place {
            Place::Local(folder) => match fs::metadata(folder.join(path)) {
                Ok(file) => Ok(Some(file.len())),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(source) => Err(at(&folder.join(path))(source)),
            },
            Place::Remote(location, runtime) => {
                let file = location.join(path);
                match runtime.block_on(file.store.head(&file.prefix)) {
                    Ok(found) => Ok(Some(found.size)),
                    Err(object_store::Error::NotFound { .. }) => Ok(None),
                    Err(source) => Err(file.error(source)),
                }
            }
        }
    }

    /// Names and sizes in bytes of the files that lie directly in it, sorted.
    pub fn files(&self) -> Result<Vec<(String, u64)>> {
        let mut files = match &self.place {
            Place::Local(folder) => local_files(folder, 1)?,
            Place::Remote(location, runtime) => {
                let listed = location.store.list_with_delimiter(Some(&location.prefix));
                match runtime.block_on(listed) {
                    Ok(listed) => relative(location, listed.objects),
                    Err(object_store::Error::NotFound { .. }) => Vec::new(),
                    Err(source) => return Err(location.error(source)),
                }
            }
        };
        files.sort();
        Ok(files)
    }

    /// Paths and sizes in bytes of all files in it and below it, sorted.
    pub fn tree(&self) -> Result<Vec<(String, u64)>> {
        let mut files = match &self.place {
            Place::Local(folder) => local_files(folder, usize::MAX)?,
            Place::Remote(location, runtime) => {
                let listed = location.store.list(Some(&location.prefix)).try_collect();
                let objects: Result<Vec<_>, _> = runtime.block_on(listed);
                match objects {
                    Ok(objects) => relative(location, objects),
                    Err(object_store::Error::NotFound { .. }) => Vec::new(),
                    Err(source) => return Err(location.error(source)),
                }
            }
        };
        files.sort();
        Ok(files)
    }

    /// Removes files; those that are not there are no fault.
    pub fn remove(&self, paths: &[String]) -> Result<()> {
        match &self.place {
            Place::Local(folder) => paths.iter().try_for_each(|path| {
                let path = folder.join(path);
                match fs::remove_file(&path) {
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
                    removed => removed.map_err(at(&path)),
                }
            }),
            Place::Remote(location, runtime) => {
                let files: Vec<_> = paths.iter().map(|path| location.join(path)).collect();
                let removals = futures::stream::iter(files).map(async |file| {
                    match file.store.delete(&file.prefix).await {
                        Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                        Err(source) => Err(file.error(source)),
                    }
                });
                runtime.block_on(removals.buffered(REQUESTS_AT_ONCE).try_collect())
            }
        }
    }

    /// Takes the lease at `path` for this process alone, see [`Lease`].
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] where another writer is at work.
    pub fn lease(&self, path: &str) -> Result<Lease> {
        Lease::take(self, path)
    }
}

async fn put(file: &Location, payload: PutPayload) -> Result<()> {
    let put = file.store.put(&file.prefix, payload).await;
    put.map(drop).map_err(|source| file.error(source))
}

/// Sends the local file `from` to `to`.
async fn upload(to: &Location, from: &Path) -> Result<()> {
    let bytes = fs::metadata(from).map_err(at(from))?.len();
    let part_bytes = PART_BYTES.max(bytes.div_ceil(MAX_PARTS).next_multiple_of(1 << 20));
    if bytes <= part_bytes {
        let whole = fs::read(from).map_err(at(from))?;
        return put(to, whole.into()).await;
    }
    let begun = to.store.put_multipart(&to.prefix).await;
    let mut upload = begun.map_err(|source| to.error(source))?;
    send(upload.as_mut(), to, from, part_bytes).await
}

/// Sends the file `from` in parts; what is broken is aborted, for a store keeps the parts otherwise.
async fn send(
    upload: &mut dyn MultipartUpload,
    to: &Location,
    from: &Path,
    part_bytes: u64,
) -> Result<()> {
    let ended = match send_parts(upload, to, from, part_bytes).await {
        Ok(()) => upload.complete().await.map_err(|source| to.error(source)),
        Err(error) => Err(error),
    };
    if ended.is_err()
        && let Err(kept) = upload.abort().await
    {
        let url = &to.url;
        tracing::warn!("{url}: the store keeps parts of a broken upload: {kept}");
    }
    ended.map(drop)
}

async fn send_parts(
    upload: &mut dyn MultipartUpload,
    to: &Location,
    from: &Path,
    part_bytes: u64,
) -> Result<()> {
    let mut file = File::open(from).map_err(at(from))?;
    let mut under_way = JoinSet::new();
    loop {
        let part = read_part(&mut file, part_bytes).map_err(at(from))?;
        let is_last = part.is_none();
        if let Some(part) = part {
            under_way.spawn(upload.put_part(part.into()));
        }
        while is_last || under_way.len() == PARTS_AT_ONCE {
            match under_way.join_next().await {
                None => return Ok(()),
                Some(Ok(sent)) => sent.map_err(|source| to.error(source))?,
                Some(Err(panic)) => {
                    return Err(Error::Panic {
                        stage: "upload",
                        message: panic.to_string(),
                    });
                }
            }
        }
    }
}

/// The next `part_bytes` of a file, fewer at its end, `None` after it.
fn read_part(file: &mut File, part_bytes: u64) -> std::io::Result<Option<Bytes>> {
    let mut part = Vec::new();
    file.take(part_bytes).read_to_end(&mut part)?;
    Ok((!part.is_empty()).then(|| part.into()))
}

/// Paths below the folder, and sizes.
fn relative(folder: &Location, objects: Vec<ObjectMeta>) -> Vec<(String, u64)> {
    let below = |object: &ObjectMeta| {
        let parts: Vec<_> = object.location.prefix_match(&folder.prefix)?.collect();
        let path: Vec<_> = parts.iter().map(AsRef::as_ref).collect();
        Some((path.join("/"), object.size))
    };
    objects.iter().filter_map(below).collect()
}

fn local_files(folder: &Path, depth: usize) -> Result<Vec<(String, u64)>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in walkdir::WalkDir::new(folder).max_depth(depth) {
        let entry = entry.map_err(|error| at(folder)(error.into()))?;
        if entry.file_type().is_dir() {
            continue;
        }
        let path = entry.path().strip_prefix(folder).unwrap_or(entry.path());
        let bytes = fs::metadata(entry.path()).map_err(at(entry.path()))?.len();
        files.push((path.display().to_string(), bytes));
    }
    Ok(files)
}

fn write_whole(to: &Path, bytes: &[u8]) -> Result<()> {
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

fn make_parent(path: &Path) -> Result<()> {
    match path.parent() {
        Some(parent) => fs::create_dir_all(parent).map_err(at(parent)),
        None => Ok(()),
    }
}

fn read_if_there(path: &Path) -> Result<Option<Bytes>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes.into())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(at(path)(source)),
    }
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> Error + '_ {
    move |source| Error::Io {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
pub(crate) mod tests;
