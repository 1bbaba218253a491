//! A store with retries: each operation is retried until it succeeds, until it fails with an error
//! that a retry cannot change, or until `retry_for` is over.
//!
//! `object_store` retries a request a few times by itself, and continues a body that broke in the
//! middle. This module restarts the complete operation, with fresh credentials and a fresh
//! signature, after a pause that doubles each time. Long waits are logged (`wait_log.rs`).
//!
//! A bounded read that takes much longer than others is hedged: it is sent a second time, and the
//! first answer counts. A stalled connection then costs less than a timeout.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
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
use super::wait_log::{Failing, WaitLog, Waiting};
use crate::error::{GaveUp, StoreMessage, causes};

/// The first pause before a retry, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// Limit for a store that has never answered: its address is probably wrong.
const NEVER_ANSWERED_FOR: Duration = Duration::from_mins(1);

/// A store that retries the operations of `inner`.
#[derive(Clone)]
pub(super) struct RetryingStore {
    inner: Arc<dyn ObjectStore>,
    shared: Arc<Shared>,
}

struct Shared {
    retry_for: Duration,
    traffic: Arc<Traffic>,
    waits: WaitLog,
    reads: Reads,
}

/// A response with another number of bytes than requested.
#[derive(Debug, thiserror::Error)]
#[error("received {received} bytes instead of {wanted}")]
struct Short {
    received: u64,
    wanted: u64,
}

/// Returns whether a retry may succeed: the transport failed, or the store asked to retry.
pub(super) fn is_transient(error: &Error) -> bool {
    matches!(error, Error::Generic { .. })
        && causes(error).any(|cause| cause.is::<HttpError>() || cause.is::<Short>())
}

/// Time limit of retries, with the text for the error at its end.
struct RetryLimit {
    duration: Duration,
    reason: &'static str,
    hint: &'static str,
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
                retry_for,
                traffic,
                waits: WaitLog::new(url),
                reads: Reads::default(),
            }),
        }
    }

    /// Retries `attempt` until it succeeds, fails for good, or the time is over.
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
            let limit = shared.limit();
            let waiting = Waiting {
                what,
                path,
                since: start,
                at_most: limit.duration,
                last: last.as_deref(),
            };
            let result = shared.waits.warn_while_waiting(waiting, attempt()).await;
            let error = match result {
                Err(error) if is_transient(&error) => error,
                settled => {
                    drop(failing);
                    shared.waits.succeeded();
                    return settled;
                }
            };
            let waited = start.elapsed();
            if waited >= limit.duration {
                return Err(Error::Generic {
                    store: "store",
                    source: Box::new(GaveUp {
                        waited,
                        reason: limit.reason,
                        hint: limit.hint,
                        source: error,
                    }),
                });
            }
            failing.get_or_insert_with(|| Failing::new(&shared.waits));
            shared.traffic.retries.fetch_add(1, Relaxed);
            let message = StoreMessage(&error).to_string();
            let waiting = Waiting {
                last: Some(&message),
                ..waiting
            };
            // The last attempt is made when the time is over.
            let sleep = tokio::time::sleep(pause.min(limit.duration.saturating_sub(waited)));
            shared.waits.warn_while_waiting(waiting, sleep).await;
            last = Some(message);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Reads, and reads a second time if the first read is late. The first success counts.
    async fn hedged(&self, path: &Path, options: &GetOptions) -> Result<GetResult> {
        let read = || read_to_end(&self.inner, path, options.clone()).boxed();
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
    /// Returns for how long operations are retried.
    fn limit(&self) -> RetryLimit {
        let has_answered = self.traffic.answers.load(Relaxed) > 0;
        if has_answered || self.retry_for <= NEVER_ANSWERED_FOR {
            RetryLimit {
                duration: self.retry_for,
                reason: "the limit of retry_for",
                hint: "check that the store is available; `data.retry_for` sets how long to wait",
            }
        } else {
            RetryLimit {
                duration: NEVER_ANSWERED_FOR,
                reason: "the store never answered",
                hint: "check the address of the store",
            }
        }
    }
}

/// Returns the first success of two futures, or the error of the one that failed last.
async fn first_success<T, F: Future<Output = Result<T>> + Unpin>(a: F, b: F) -> Result<T> {
    match futures::future::select(a, b).await {
        Either::Left((Ok(value), _)) | Either::Right((Ok(value), _)) => Ok(value),
        Either::Left((Err(_), other)) | Either::Right((Err(_), other)) => other.await,
    }
}

/// Reads an object or range into memory and checks its length.
async fn read_to_end(
    store: &Arc<dyn ObjectStore>,
    path: &Path,
    options: GetOptions,
) -> Result<GetResult> {
    let head = options.head;
    let mut got = store.get_opts(path, options).await?;
    let GetResultPayload::Stream(stream) = got.payload else {
        return Ok(got); // A local file needs no retries.
    };
    let wanted = if head {
        0
    } else {
        got.range.end - got.range.start
    };
    let bytes = collect_bytes(stream, Some(wanted)).await?;
    let received = bytes.len() as u64;
    if received != wanted {
        return Err(Error::Generic {
            store: "store",
            source: Box::new(Short { received, wanted }),
        });
    }
    got.payload = GetResultPayload::Stream(futures::stream::once(async { Ok(bytes) }).boxed());
    Ok(got)
}

/// Written by hand: the client has keys and tokens, also signed URLs. Its `Display` is its address.
impl fmt::Debug for RetryingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RetryingStore({self})")
    }
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

    /// Only `object_store` retries the parts of an upload: a part sent again would become another part.
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
