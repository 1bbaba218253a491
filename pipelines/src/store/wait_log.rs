//! Warnings about long waits for a store, once for all of its operations.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use object_store::path::Path;

/// Duration of a wait before the first warning.
const WARN_AFTER: Duration = Duration::from_secs(9);
/// Time between two warnings.
const WARN_EVERY: Duration = Duration::from_secs(30);

/// State of the warnings of one store.
#[derive(Debug)]
pub(super) struct WaitLog {
    /// `SCHEME://BUCKET`, for messages.
    url: String,
    /// Time of the last warning; `None` while no operation waits.
    warned: Mutex<Option<Instant>>,
    /// Number of operations that have failed and are retried.
    n_failing: AtomicUsize,
}

/// Counts an operation in [`WaitLog`] until it is dropped.
pub(super) struct Failing<'a>(&'a WaitLog);

impl<'a> Failing<'a> {
    pub(super) fn new(waits: &'a WaitLog) -> Self {
        waits.n_failing.fetch_add(1, Relaxed);
        Self(waits)
    }
}

impl Drop for Failing<'_> {
    fn drop(&mut self) {
        self.0.n_failing.fetch_sub(1, Relaxed);
    }
}

/// An operation that waits, and its last error.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting<'a> {
    pub(super) what: &'a str,
    pub(super) path: Option<&'a Path>,
    pub(super) since: Instant,
    pub(super) at_most: Duration,
    pub(super) last: Option<&'a str>,
}

impl WaitLog {
    pub(super) fn new(url: String) -> Self {
        Self {
            url,
            warned: Mutex::default(),
            n_failing: AtomicUsize::new(0),
        }
    }

    /// Awaits `future`, with warnings while it takes long.
    pub(super) async fn warn_while_waiting<T>(
        &self,
        waiting: Waiting<'_>,
        future: impl Future<Output = T>,
    ) -> T {
        let mut future = std::pin::pin!(future);
        loop {
            let warn_in = WARN_AFTER.saturating_sub(waiting.since.elapsed());
            match tokio::time::timeout(warn_in.max(Duration::from_secs(1)), &mut future).await {
                Ok(result) => return result,
                Err(_) => self.warn(waiting),
            }
        }
    }

    /// Logs a warning if this wait is long enough and the last warning is old enough.
    fn warn(&self, waiting: Waiting<'_>) {
        let waited = waiting.since.elapsed();
        if waited < WARN_AFTER {
            return;
        }
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.is_some_and(|at| at.elapsed() < WARN_EVERY) {
            return;
        }
        *warned = Some(Instant::now());
        let path = waiting
            .path
            .map_or_else(String::new, |path| format!(" ({path})"));
        tracing::warn!(
            "{}: waiting for {}{path}, {:.0} s of at most {:.0} s; last error: {}",
            self.url,
            waiting.what,
            waited.as_secs_f64(),
            waiting.at_most.as_secs_f64(),
            waiting.last.unwrap_or("none, no answer yet"),
        );
    }

    /// Ends the warnings after a success, once no operation fails.
    pub(super) fn succeeded(&self) {
        if self.n_failing.load(Relaxed) > 0 {
            return; // Other operations are still retried.
        }
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.take().is_some() {
            tracing::warn!("{}: available again", self.url);
        }
    }
}
