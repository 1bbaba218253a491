//! A folder in a store, with the runtime for its requests.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures::stream::{self, StreamExt, TryStreamExt};
use object_store::{GetOptions, GetRange, MultipartUpload, ObjectMeta, ObjectStoreExt};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::local::at;
use crate::store::location::Location;
use crate::store::options::StoreOptions;
use crate::{Error, Result};

/// Part size of uploads and downloads of large files. Stores need at least 5 MiB, and the same size
/// for all parts but the last.
const PART_BYTES: u64 = 16 << 20;
/// Maximum number of parts of an upload.
const MAX_PARTS: u64 = 10_000;
/// Parts in flight at once, each of them in memory.
const PARTS_AT_ONCE: usize = 4;
/// Small requests in flight at once.
const REQUESTS_AT_ONCE: usize = 16;
/// Duration of an upload before its first progress message.
const LOG_AFTER: Duration = Duration::from_secs(9);
/// Time between two progress messages.
const LOG_EVERY: Duration = Duration::from_secs(30);
/// Pause before a failed upload is restarted.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, Clone)]
pub(super) struct Remote {
    location: Location,
    /// For how long a failed upload is restarted; the client retries all other requests.
    retry_for: Duration,
    runtime: Arc<Runtime>,
}

impl Remote {
    pub(super) fn open(location: Location, options: &StoreOptions) -> Result<Self> {
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
            location,
            retry_for: options.retry_for,
            runtime: Arc::new(runtime),
        })
    }

    pub(super) fn url(&self) -> &str {
        &self.location.url
    }

    pub(super) fn join(&self, relative: &str) -> Self {
        Self {
            location: self.location.join(relative),
            ..self.clone()
        }
    }

    pub(super) fn parent(&self) -> Option<(Self, String)> {
        let name = self.location.prefix.filename()?.to_owned();
        let (url, _) = self.location.url.trim_end_matches('/').rsplit_once('/')?;
        let mut parts: Vec<_> = self.location.prefix.parts().collect();
        parts.pop();
        let location = Location {
            prefix: parts.into_iter().collect(),
            url: url.to_owned(),
            ..self.location.clone()
        };
        let parent = Self {
            location,
            ..self.clone()
        };
        Some((parent, name))
    }

    pub(super) fn read(&self, path: &str) -> Result<Option<Bytes>> {
        self.runtime.block_on(self.location.join(path).read())
    }

    /// Reads in parts, so that a failed or stalled request costs one part.
    pub(super) fn read_large(&self, path: &str) -> Result<Option<Bytes>> {
        let file = self.location.join(path);
        self.runtime.block_on(async {
            let meta = match file.store.head(&file.prefix).await {
                Ok(meta) => meta,
                Err(object_store::Error::NotFound { .. }) => return Ok(None),
                Err(cause) => return Err(file.error(cause)),
            };
            let starts = (0..meta.size).step_by(PART_BYTES as usize);
            let parts = stream::iter(starts).map(async |start| {
                let options = GetOptions {
                    range: Some(GetRange::Bounded(
                        start..(start + PART_BYTES).min(meta.size),
                    )),
                    // All parts must be of one version.
                    if_match: meta.e_tag.clone(),
                    ..GetOptions::default()
                };
                file.store
                    .get_opts(&file.prefix, options)
                    .await?
                    .bytes()
                    .await
            });
            let mut parts = parts.buffered(PARTS_AT_ONCE);
            let mut whole = BytesMut::with_capacity(meta.size as usize);
            while let Some(part) = parts.next().await {
                whole.extend_from_slice(&part.map_err(|cause| file.error(cause))?);
            }
            Ok(Some(whole.freeze()))
        })
    }

    pub(super) fn read_all(&self, paths: &[String]) -> Result<Vec<Option<Bytes>>> {
        let files: Vec<_> = paths.iter().map(|path| self.location.join(path)).collect();
        let reads = stream::iter(files).map(async |file| file.read().await);
        self.runtime
            .block_on(reads.buffered(REQUESTS_AT_ONCE).try_collect())
    }

    pub(super) fn size(&self, path: &str) -> Result<Option<u64>> {
        let file = self.location.join(path);
        match self.runtime.block_on(file.store.head(&file.prefix)) {
            Ok(found) => Ok(Some(found.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(cause) => Err(file.error(cause)),
        }
    }

    pub(super) fn write(&self, path: &str, bytes: Bytes) -> Result<()> {
        let file = self.location.join(path);
        let put = file.store.put(&file.prefix, bytes.into());
        let put = self.runtime.block_on(put);
        put.map(drop).map_err(|cause| file.error(cause))
    }

    /// Uploads a local file, in parts if it is large. Restarts a failed upload, as the client retries
    /// single requests only.
    pub(super) fn upload(&self, path: &str, from: &Path) -> Result<()> {
        let bytes = fs::metadata(from).map_err(at(from))?.len();
        let part_bytes = PART_BYTES.max(bytes.div_ceil(MAX_PARTS).next_multiple_of(1 << 20));
        if bytes <= part_bytes {
            return self.write(path, fs::read(from).map_err(at(from))?.into());
        }
        let to = self.location.join(path);
        // An upload may take longer than `retry_for`: the limit counts from the first failure.
        let mut failing_since = None;
        loop {
            let sent = self.runtime.block_on(async {
                let begun = to.store.put_multipart(&to.prefix).await;
                let mut upload = begun.map_err(|cause| (to.error(cause), false))?;
                let sent = send(upload.as_mut(), &to, from, part_bytes).await;
                sent.map_err(|error| (error, true))
            });
            match sent {
                Ok(()) => return Ok(()),
                Err((error @ Error::Store { .. }, true))
                    if failing_since.get_or_insert_with(Instant::now).elapsed()
                        < self.retry_for =>
                {
                    tracing::warn!("restarting the upload: {error}");
                    std::thread::sleep(PAUSE);
                }
                Err((error, _)) => return Err(error),
            }
        }
    }

    pub(super) fn files(&self) -> Result<Vec<(String, u64)>> {
        let Location { store, prefix, .. } = &self.location;
        let listed = store.list_with_delimiter(Some(prefix));
        let listed = self.runtime.block_on(listed).map(|listed| listed.objects);
        self.relative(listed)
    }

    pub(super) fn tree(&self) -> Result<Vec<(String, u64)>> {
        let Location { store, prefix, .. } = &self.location;
        let listed = store.list(Some(prefix)).try_collect();
        self.relative(self.runtime.block_on(listed))
    }

    /// Converts a listing to paths relative to the folder, and sizes in bytes.
    fn relative(
        &self,
        objects: object_store::Result<Vec<ObjectMeta>>,
    ) -> Result<Vec<(String, u64)>> {
        let objects = match objects {
            Err(object_store::Error::NotFound { .. }) => Vec::new(),
            objects => objects.map_err(|cause| self.location.error(cause))?,
        };
        let below = |object: ObjectMeta| {
            let parts: Vec<_> = object
                .location
                .prefix_match(&self.location.prefix)?
                .collect();
            let path: Vec<_> = parts.iter().map(AsRef::as_ref).collect();
            // Some stores list a folder itself, as an empty object.
            (!path.is_empty()).then(|| (path.join("/"), object.size))
        };
        Ok(objects.into_iter().filter_map(below).collect())
    }

    pub(super) fn remove(&self, paths: &[String]) -> Result<()> {
        let files: Vec<_> = paths.iter().map(|path| self.location.join(path)).collect();
        let removals =
            stream::iter(files).map(async |file| match file.store.delete(&file.prefix).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(cause) => Err(file.error(cause)),
            });
        self.runtime
            .block_on(removals.buffered(REQUESTS_AT_ONCE).try_collect())
    }
}

/// Sends the file `from` in parts. Aborts a failed upload, as the store would keep its parts.
async fn send(
    upload: &mut dyn MultipartUpload,
    to: &Location,
    from: &Path,
    part_bytes: u64,
) -> Result<()> {
    let ended = match send_parts(upload, to, from, part_bytes).await {
        Ok(()) => upload.complete().await.map_err(|cause| to.error(cause)),
        Err(error) => Err(error),
    };
    if ended.is_err()
        && let Err(kept) = upload.abort().await
    {
        let url = &to.url;
        tracing::warn!("{url}: cannot abort a failed upload, the store keeps its parts: {kept}");
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
    let mut in_flight = JoinSet::new();
    let mut sent_bytes = 0;
    let mut log_at = tokio::time::Instant::now() + LOG_AFTER;
    loop {
        let mut part = Vec::new();
        let read = file.by_ref().take(part_bytes).read_to_end(&mut part);
        let is_last = read.map_err(at(from))? == 0;
        if !is_last {
            let bytes = part.len() as u64;
            let sent = upload.put_part(part.into());
            in_flight.spawn(async move { sent.await.map(|()| bytes) });
        }
        while is_last || in_flight.len() == PARTS_AT_ONCE {
            let ended = tokio::time::timeout_at(log_at, in_flight.join_next()).await;
            let Ok(ended) = ended else {
                tracing::info!("{}: {} MiB sent so far", to.url, sent_bytes >> 20);
                log_at += LOG_EVERY;
                continue;
            };
            match ended {
                None => return Ok(()),
                Some(Ok(sent)) => sent_bytes += sent.map_err(|cause| to.error(cause))?,
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
