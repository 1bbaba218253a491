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

/// Ranges with less than this between them are read as one: a request costs more than the gap.
pub(super) const MAX_GAP: u64 = 1 << 20;
/// Larger ranges are read in pieces at the same time: what breaks is repeated by the piece.
pub(super) const MAX_PIECE: u64 = 16 << 20;
const PIECES_AT_ONCE: usize = 4;

/// How a shard is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShardFormat {
    /// Parquet.
    Parquet,
    /// Arrow IPC, as a file or as a stream.
    Arrow,
}

/// One file of a set, as it was listed.
#[derive(Debug, Clone)]
pub(super) struct Object {
    pub(super) location: Location,
    /// Path relative to the set's folder.
    pub(super) path: String,
    pub(super) format: ShardFormat,
    pub(super) bytes: u64,
    /// Its version: of the listing, or of the first read where there was no listing. All reads must
    /// be of the same.
    pub(super) e_tag: Arc<OnceLock<String>>,
    /// Whether what the cache keeps of it may serve.
    pub(super) cached: bool,
}

impl Object {
    /// The same; `again` read from the store itself, for what the cache holds may be damaged.
    pub(super) fn way(&self, again: bool) -> Cow<'_, Self> {
        if !again {
            return Cow::Borrowed(self);
        }
        Cow::Owned(Self {
            cached: false,
            ..self.clone()
        })
    }

    /// Reads one range; all of it comes, or an error.
    pub(super) async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        if range.end > self.bytes || range.start > range.end {
            return Err(self.corrupt(format!(
                "names bytes {}..{}, but the file has {}: it is truncated or damaged",
                range.start, range.end, self.bytes
            )));
        }
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let n_pieces = (range.end - range.start).div_ceil(MAX_PIECE);
        if n_pieces == 1 {
            return self.piece(range).await;
        }
        let piece = |i| range.start + (range.end - range.start) * i / n_pieces;
        let pieces = (0..n_pieces).map(|i| self.piece(piece(i)..piece(i + 1)));
        let mut whole = Vec::with_capacity((range.end - range.start) as usize);
        let mut pieces = futures::stream::iter(pieces).buffered(PIECES_AT_ONCE);
        while let Some(piece) = pieces.try_next().await? {
            whole.extend_from_slice(&piece);
        }
        Ok(whole.into())
    }

    /// From the cache, or from the store and then into the cache.
    async fn piece(&self, range: Range<u64>) -> Result<Bytes> {
        let Some(cache) = &self.location.cache else {
            return self.read_piece(range).await;
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
        let bytes = self.read_piece(range.clone()).await?;
        if let Some(key) = self.e_tag.get().map(key) {
            let (cache, bytes) = (Arc::clone(cache), bytes.clone());
            // Cancelled at the end of its reader: what is not kept comes from the store again.
            let _kept = tokio::task::spawn_blocking(move || cache.put(key, &bytes)).await;
        }
        Ok(bytes)
    }

    async fn read_piece(&self, range: Range<u64>) -> Result<Bytes> {
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
            return Err(self.corrupt("changed since the set was opened: start again".to_owned()));
        }
        if bytes.len() as u64 != wanted {
            return Err(self.corrupt(format!("gave {} bytes of {wanted} asked for", bytes.len())));
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
            parts: try_join_all(reads).await?,
        })
    }

    /// A decoder that panicked met damage; one that was cancelled, the end of its reader.
    pub(super) fn not_decoded(&self, what: &str, error: tokio::task::JoinError) -> Error {
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

/// Reads once more (`again`), then past the cache, what came damaged: what happened on the way does
/// not happen again, and what is damaged in the store stays so.
pub(super) async fn twice<T, F: Future<Output = Result<T>>>(read: impl Fn(bool) -> F) -> Result<T> {
    match read(false).await {
        Err(error @ Error::Corrupt { .. }) => {
            tracing::warn!("{error}: it is read once more");
            read(true).await
        }
        settled => settled,
    }
}

/// An `ETag` without its quotation marks: Azure and Google leave them out in listings.
pub(super) fn version(e_tag: &str) -> String {
    e_tag.trim_matches('"').to_owned()
}

/// The parts of a file that were read.
#[derive(Debug, Clone)]
pub(super) struct Fetched {
    /// Where each part begins, and its bytes.
    pub(super) parts: Vec<(u64, Bytes)>,
}

impl Fetched {
    /// The fetched bytes from `start` on, without a copy.
    pub(super) fn from(&self, start: u64) -> Option<Bytes> {
        let (from, bytes) = self
            .parts
            .iter()
            .find(|(from, bytes)| (*from..from + bytes.len() as u64).contains(&start))?;
        Some(bytes.slice((start - from) as usize..))
    }

    /// Bytes in memory.
    pub(super) fn len(&self) -> u64 {
        self.parts.iter().map(|(_, bytes)| bytes.len() as u64).sum()
    }
}

/// What is read for `ranges`: those with less than `max_gap` between them become one.
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

/// Requests that reading these ranges takes.
pub(super) fn n_requests(ranges: &[Range<u64>]) -> u32 {
    let each = ranges
        .iter()
        .map(|range| (range.end - range.start).div_ceil(MAX_PIECE));
    each.sum::<u64>() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_lie_together_become_one() {
        let mib = 1 << 20;
        let ranges = vec![5 * mib..6 * mib, 10..20, 0..10, mib..mib + 5];
        assert_eq!(coalesce(ranges, MAX_GAP), [0..mib + 5, 5 * mib..6 * mib]);
    }
}
