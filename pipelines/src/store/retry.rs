//! A store that is waited for: every operation is tried again until it succeeds, cannot succeed,
//! or `retry_for` is over.
//!
//! `object_store` repeats a request a few times by itself, and goes on in the middle of a body that
//! broke; here the whole operation begins anew, with fresh credentials and a fresh signature, after
//! a pause that doubles. What an operation waits for is said after [`SAY_AFTER`] and then every
//! [`SAY_EVERY`], once for all operations of a store.
//!
//! A read that takes much longer than its like is sent a second time, and the first answer counts:
//! a stalled connection then costs a moment in place of a time-out.

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::future::Either;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::client::HttpError;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result, collect_bytes,
};

use super::hedge::{Hedge, Reads};
use super::traffic::Traffic;
use crate::error::{GaveUp, StoreMessage, causes};

/// A wait as long as this is said.
const SAY_AFTER: Duration = Duration::from_secs(9);
/// And said again after so long.
const SAY_EVERY: Duration = Duration::from_secs(30);
/// The first pause before a repetition, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// A store that has never answered is rather a wrong address than an outage.
const STRANGER_FOR: Duration = Duration::from_mins(1);

/// A store around another, which it waits for.
#[derive(Debug, Clone)]
pub(super) struct RetryingStore {
    inner: Arc<dyn ObjectStore>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// The store as a person names it.
    url: String,
    retry_for: Duration,
    traffic: Arc<Traffic>,
    /// When waiting was last said; none while all goes well.
    said: Mutex<Option<Instant>>,
    /// Operations that have failed and are tried again.
    n_failing: AtomicUsize,
    reads: Reads,
}

/// An operation that is tried again.
struct Failing<'a>(&'a Shared);

impl<'a> Failing<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.n_failing.fetch_add(1, Relaxed);
        Self(shared)
    }
}

impl Drop for Failing<'_> {
    fn drop(&mut self) {
        self.0.n_failing.fetch_sub(1, Relaxed);
    }
}

/// What is waited for, and what the store said the last time.
#[derive(Debug, Clone, Copy)]
struct Waiting<'a> {
    what: &'a str,
    path: Option<&'a Path>,
    since: Instant,
    at_most: Duration,
    last: Option<&'a str>,
}

/// An answer that has another number of bytes than were asked for.
#[derive(Debug, thiserror::Error)]
#[error("{came} bytes came in place of {wanted}")]
struct Short {
    came: u64,
    wanted: u64,
}

/// Whether the same operation may succeed later: what failed is the way to the store and back, or
/// the store said so.
pub(super) fn may_pass(error: &Error) -> bool {
    matches!(error, Error::Generic { .. })
        && causes(error).any(|cause| cause.is::<HttpError>() || cause.is::<Short>())
}

impl RetryingStore {
    pub(super) fn new(
        inner: Arc<dyn ObjectStore>,
        url: String,
        retry_for: Duration,
        traffic: Arc<Traffic>,
    ) -> Self {
        Self {
            inner,
            shared: Arc::new(Shared {
                url,
                retry_for,
                traffic,
                said: Mutex::default(),
                n_failing: AtomicUsize::new(0),
                reads: Reads::default(),
            }),
        }
    }

    /// Repeats `attempt` until it succeeds or there is no use in it.
    async fn retry<T, F: Future<Output = Result<T>>>(
        &self,
        what: &str,
        path: Option<&Path>,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T> {
        let shared = &self.shared;
        let start = Instant::now();
        let mut pause = FIRST_PAUSE;
        let mut last: Option<String> = None;
        let mut failing = None;
        loop {
            let (patience, reason) = shared.patience();
            let waiting = Waiting {
                what,
                path,
                since: start,
                at_most: patience,
                last: last.as_deref(),
            };
            let result = shared.warn_while_waiting(waiting, attempt()).await;
            let error = match result {
                Err(error) if may_pass(&error) => error,
                settled => {
                    drop(failing);
                    shared.answered();
                    return settled;
                }
            };
            let waited = start.elapsed();
            if waited >= patience {
                return Err(Error::Generic {
                    store: "store",
                    source: Box::new(GaveUp {
                        waited,
                        reason,
                        source: error,
                    }),
                });
            }
            failing.get_or_insert_with(|| Failing::new(shared));
            shared.traffic.repeats.fetch_add(1, Relaxed);
            let words = StoreMessage(&error).to_string();
            let waiting = Waiting {
                last: Some(&words),
                ..waiting
            };
            // The last attempt is made when patience ends.
            let sleep = tokio::time::sleep(pause.min(patience.saturating_sub(waited)));
            shared.warn_while_waiting(waiting, sleep).await;
            last = Some(words);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// A read, and a second one if the first takes long; the first answer counts.
    async fn hedged(&self, path: &Path, options: &GetOptions) -> Result<GetResult> {
        let read = || whole(&self.inner, path, options.clone()).boxed();
        let Some(GetRange::Bounded(range)) = &options.range else {
            return read().await;
        };
        let reads = &self.shared.reads;
        let bytes = range.end - range.start;
        let start = Instant::now();
        let result = match reads.late(bytes) {
            None => read().await,
            Some(late) => {
                let mut first = read();
                match tokio::time::timeout(late, &mut first).await {
                    Ok(result) => result,
                    Err(_) => match Hedge::begin(reads) {
                        None => first.await,
                        Some(_hedge) => {
                            self.shared.traffic.hedges.fetch_add(1, Relaxed);
                            first_success(first, read()).await
                        }
                    },
                }
            }
        };
        if result.is_ok() {
            reads.add(bytes, start.elapsed());
        }
        result
    }
}

impl Shared {
    /// For how long attempts are repeated, and why no longer.
    fn patience(&self) -> (Duration, &'static str) {
        let has_answered = self.traffic.answers.load(Relaxed) > 0;
        if has_answered || self.retry_for <= STRANGER_FOR {
            (self.retry_for, "as long as retry_for allows")
        } else {
            (
                STRANGER_FOR,
                "and this store has never answered: is its address right?",
            )
        }
    }

    /// Says that something is waited for, as long as it is.
    async fn warn_while_waiting<T>(
        &self,
        waiting: Waiting<'_>,
        future: impl Future<Output = T>,
    ) -> T {
        let mut future = std::pin::pin!(future);
        loop {
            let say_in = SAY_AFTER.saturating_sub(waiting.since.elapsed());
            match tokio::time::timeout(say_in.max(Duration::from_secs(1)), &mut future).await {
                Ok(result) => return result,
                Err(_) => self.warn(waiting),
            }
        }
    }

    /// Says it if this wait is long enough, and it was not said just now.
    fn warn(&self, waiting: Waiting<'_>) {
        let waited = waiting.since.elapsed();
        if waited < SAY_AFTER {
            return;
        }
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_some_and(|at| at.elapsed() < SAY_EVERY) {
            return;
        }
        *said = Some(Instant::now());
        let path = waiting
            .path
            .map_or_else(String::new, |path| format!(" ({path})"));
        tracing::warn!(
            "{}: waiting for {}{path} for {:.0} s, {:.0} s at most: {}",
            self.url,
            waiting.what,
            waited.as_secs_f64(),
            waiting.at_most.as_secs_f64(),
            waiting.last.unwrap_or("no answer yet"),
        );
    }

    fn answered(&self) {
        if self.n_failing.load(Relaxed) > 0 {
            return; // Other operations still wait.
        }
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.take().is_some() {
            tracing::warn!("{}: answers again", self.url);
        }
    }
}

/// The first of two that succeeds, or the error of the second to fail.
async fn first_success<T, F: Future<Output = Result<T>> + Unpin>(a: F, b: F) -> Result<T> {
    match futures::future::select(a, b).await {
        Either::Left((Ok(value), _)) | Either::Right((Ok(value), _)) => Ok(value),
        Either::Left((Err(_), other)) | Either::Right((Err(_), other)) => other.await,
    }
}

/// The object or range, in memory, as long as it should be.
async fn whole(
    store: &Arc<dyn ObjectStore>,
    path: &Path,
    options: GetOptions,
) -> Result<GetResult> {
    let head = options.head;
    let mut got = store.get_opts(path, options).await?;
    let GetResultPayload::Stream(stream) = got.payload else {
        return Ok(got); // A local file: there is nothing to wait for.
    };
    let wanted = if head {
        0
    } else {
        got.range.end - got.range.start
    };
    let bytes = collect_bytes(stream, Some(wanted)).await?;
    let came = bytes.len() as u64;
    if came != wanted {
        return Err(Error::Generic {
            store: "store",
            source: Box::new(Short { came, wanted }),
        });
    }
    got.payload = GetResultPayload::Stream(futures::stream::once(async { Ok(bytes) }).boxed());
    Ok(got)
}

impl fmt::Display for RetryingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for RetryingStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let put = || self.inner.put_opts(location, payload.clone(), opts.clone());
        self.retry("a write", Some(location), put).await
    }

    /// Its parts are repeated by `object_store` alone: a part that is given again becomes another one.
    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let put = || self.inner.put_multipart_opts(location, opts.clone());
        self.retry("an upload", Some(location), put).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let get = || self.hedged(location, &options);
        self.retry("a read", Some(location), get).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let delete = move |path: Path| {
            let store = store.clone();
            async move {
                let delete = || {
                    let one = futures::stream::iter([Ok(path.clone())]).boxed();
                    let deleted: BoxStream<'_, Result<Path>> = store.inner.delete_stream(one);
                    deleted.try_collect::<Vec<Path>>()
                };
                store.retry("a delete", Some(&path), delete).await?;
                Ok(path)
            }
        };
        locations.and_then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, prefix) = (self.clone(), prefix.cloned());
        let listing = async move {
            let list = || store.inner.list(prefix.as_ref()).try_collect::<Vec<_>>();
            let found = store.retry("a listing", prefix.as_ref(), list).await?;
            Ok::<_, Error>(futures::stream::iter(found.into_iter().map(Ok)))
        };
        futures::stream::once(listing).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let list = || self.inner.list_with_delimiter(prefix);
        self.retry("a listing", prefix, list).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let copy = || self.inner.copy_opts(from, to, options.clone());
        self.retry("a copy", Some(from), copy).await
    }
}
