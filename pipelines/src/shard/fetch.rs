//! Ranged reads of one object, checked against the version that was listed.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt};
use object_store::{GetOptions, GetRange, ObjectStore};

use crate::store::{Key, Location};
use crate::{Error, Result};

/// Ranges with a smaller gap than this between them are read as one: a request costs more than the
/// gap.
pub(super) const MAX_GAP: u64 = 1 << 20;
/// Larger ranges are read with several requests at the same time, each of which is retried alone.
pub(super) const MAX_REQUEST_BYTES: u64 = 16 << 20;
const REQUESTS_AT_ONCE: usize = 4;

/// File format of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShardFormat {
    /// Parquet.
    Parquet,
    /// Arrow IPC, as a file or as a stream.
    Arrow,
}

/// One file of a dataset, as it was listed.
#[derive(Debug, Clone)]
pub(super) struct Object {
    pub(super) location: Location,
    /// Path relative to the dataset's folder.
    pub(super) path: String,
    pub(super) format: ShardFormat,
    pub(super) bytes: u64,
    /// Version of the file: from the listing, or from the first read where there was no listing. All
    /// reads must see the same version.
    pub(super) e_tag: Arc<OnceLock<String>>,
    /// Whether reads may be answered from the cache.
    pub(super) cached: bool,
}

impl Object {
    /// Returns the same object; on a second read (`again`) one that does not read from the cache, whose
    /// bytes may be damaged.
    pub(super) fn uncached_if(&self, again: bool) -> Cow<'_, Self> {
        if !again {
            return Cow::Borrowed(self);
        }
        Cow::Owned(Self {
            cached: false,
            ..self.clone()
        })
    }

    /// Reads one range, all of it.
    pub(super) async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        if range.end > self.bytes || range.start > range.end {
            return Err(self.corrupt(format!(
                "names bytes {}..{}, but the file has {} bytes, so it is truncated or damaged",
                range.start, range.end, self.bytes
            )));
        }
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let n_requests = (range.end - range.start).div_ceil(MAX_REQUEST_BYTES);
        if n_requests == 1 {
            return self.read_cached(range).await;
        }
        let start = |i| range.start + (range.end - range.start) * i / n_requests;
        let reads = (0..n_requests).map(|i| self.read_cached(start(i)..start(i + 1)));
        let mut joined = Vec::with_capacity((range.end - range.start) as usize);
        let mut reads = futures::stream::iter(reads).buffered(REQUESTS_AT_ONCE);
        while let Some(bytes) = reads.try_next().await? {
            joined.extend_from_slice(&bytes);
        }
        Ok(joined.into())
    }

    /// Reads a range from the cache, or from the store and then writes it to the cache.
    async fn read_cached(&self, range: Range<u64>) -> Result<Bytes> {
        let Some(cache) = &self.location.cache else {
            return self.request(range).await;
        };
        // An object whose version is not known yet, or that has none, cannot be found again.
        let key = |e_tag: &String| Key::new(&self.location.url, e_tag, &range);
        if let (true, Some(key)) = (self.cached, self.e_tag.get().map(key)) {
            let cache = Arc::clone(cache);
            let found = tokio::task::spawn_blocking(move || cache.get(key)).await;
            if let Ok(Some(bytes)) = found {
                return Ok(bytes);
            }
        }
        let bytes = self.request(range.clone()).await?;
        if let Some(key) = self.e_tag.get().map(key) {
            let (cache, bytes) = (Arc::clone(cache), bytes.clone());
            // Cancelled when its reader ends: a range that was not cached is fetched again.
            let _kept = tokio::task::spawn_blocking(move || cache.put(key, &bytes)).await;
        }
        Ok(bytes)
    }

    async fn request(&self, range: Range<u64>) -> Result<Bytes> {
        let wanted = range.end - range.start;
        let options = GetOptions {
            range: Some(GetRange::Bounded(range)),
            ..GetOptions::default()
        };
        let read = async {
            let found = self
                .location
                .store
                .get_opts(&self.location.prefix, options)
                .await?;
            let e_tag = found.meta.e_tag.as_deref().map(version);
            Ok((e_tag, found.bytes().await?))
        };
        let (e_tag, bytes) = read.await.map_err(|source| self.location.error(source))?;
        if let Some(e_tag) = e_tag
            && *self.e_tag.get_or_init(|| e_tag.clone()) != e_tag
        {
            return Err(self.corrupt(
                "changed since the dataset was opened\nhint: run the command again".to_owned(),
            ));
        }
        if bytes.len() as u64 != wanted {
            return Err(self.corrupt(format!("read {} bytes instead of {wanted}", bytes.len())));
        }
        Ok(bytes)
    }

    /// Reads ranges, all at the same time.
    pub(super) async fn read_all(&self, ranges: Vec<Range<u64>>) -> Result<Fetched> {
        let reads = ranges.into_iter().map(async |range| {
            let start = range.start;
            Ok::<_, Error>((start, self.read(range).await?))
        });
        Ok(Fetched {
            ranges: try_join_all(reads).await?,
        })
    }

    /// Returns the error of a decoding task that did not end: a panic means damaged bytes, a
    /// cancellation the end of the reader.
    pub(super) fn decode_error(&self, what: &str, error: tokio::task::JoinError) -> Error {
        if error.is_cancelled() {
            return self.location.error(error.into());
        }
        self.corrupt(format!("{what}: the decoder: {error}"))
    }

    pub(super) fn corrupt(&self, reason: String) -> Error {
        Error::Corrupt {
            shard: self.location.url.clone(),
            reason,
        }
    }
}

/// Reads damaged bytes once more (`again`), then not from the cache: damage on the way does not happen
/// `retry_damaged`, damage in the store does.
pub(super) async fn retry_damaged<T, F: Future<Output = Result<T>>>(
    read: impl Fn(bool) -> F,
) -> Result<T> {
    match read(false).await {
        Err(error @ Error::Corrupt { .. }) => {
            tracing::warn!("reading again: {error}");
            read(true).await
        }
        settled => settled,
    }
}

/// Returns an `ETag` without its quotation marks: Azure and Google leave them out in listings.
pub(super) fn version(e_tag: &str) -> String {
    e_tag.trim_matches('"').to_owned()
}

/// Ranges of a file that were read.
#[derive(Debug, Clone)]
pub(super) struct Fetched {
    /// Start of each range in the file, and its bytes.
    pub(super) ranges: Vec<(u64, Bytes)>,
}

impl Fetched {
    /// Returns the fetched bytes from `start` on, without a copy.
    pub(super) fn from(&self, start: u64) -> Option<Bytes> {
        let (from, bytes) = self
            .ranges
            .iter()
            .find(|(from, bytes)| (*from..from + bytes.len() as u64).contains(&start))?;
        Some(bytes.slice((start - from) as usize..))
    }

    /// Returns the bytes in memory.
    pub(super) fn len(&self) -> u64 {
        self.ranges
            .iter()
            .map(|(_, bytes)| bytes.len() as u64)
            .sum()
    }
}

/// Joins the ranges with less than `max_gap` between them.
pub(super) fn coalesce(mut ranges: Vec<Range<u64>>, max_gap: u64) -> Vec<Range<u64>> {
    ranges.sort_by_key(|range| range.start);
    let mut joined: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start < last.end.saturating_add(max_gap) => {
                last.end = last.end.max(range.end);
            }
            _ => joined.push(range),
        }
    }
    joined
}

/// Counts the requests that reading these ranges takes.
pub(super) fn n_requests(ranges: &[Range<u64>]) -> u32 {
    let each = ranges
        .iter()
        .map(|range| (range.end - range.start).div_ceil(MAX_REQUEST_BYTES));
    each.sum::<u64>() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coalesce_joins_ranges_with_small_gaps() {
        let mib = 1 << 20;
        let ranges = vec![5 * mib..6 * mib, 10..20, 0..10, mib..mib + 5];
        assert_eq!(coalesce(ranges, MAX_GAP), [0..mib + 5, 5 * mib..6 * mib]);
    }
}
