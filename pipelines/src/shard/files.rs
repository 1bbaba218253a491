//! The files of a dataset: shards and their row groups.

use xxhash_rust::xxh3::Xxh3;

use super::fetch::{MAX_REQUEST_BYTES, Object, ShardFormat, n_requests};
use super::manifest::{MANIFEST_NAME, ManifestGroup};
use super::rows::ROW_BYTES;
use crate::store::Location;
use crate::{Error, Result};

/// One shard of a dataset.
#[derive(Debug, Clone)]
pub struct Shard {
    /// Path relative to the dataset's folder.
    pub path: String,
    /// File format.
    pub format: ShardFormat,
    /// Number of its first row in the dataset.
    pub first_row: u64,
    /// Number of rows.
    pub rows: u64,
    /// Row groups (Parquet) or record batches (Arrow IPC), in file order.
    pub groups: Vec<Group>,
    pub(super) object: Object,
}

/// A row group of a Parquet shard, or a record batch of an Arrow one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// Number of rows.
    pub rows: u64,
    /// Bytes in the file, of all columns.
    pub bytes: u64,
    /// Bytes to fetch for the mapped columns; known only as an upper limit from a manifest.
    pub fetch_bytes: u64,
    /// Requests for these bytes; an estimate from a manifest.
    pub requests: u32,
    /// Upper limit of the memory that reading it takes, as far as known before: fetched and decoded
    /// bytes.
    pub memory: u64,
}

impl Shard {
    /// Returns the XXH3-64 of the entire file, read in several requests and not from the cache.
    pub(crate) async fn hash(&self) -> Result<u64> {
        let object = self.object.uncached_if(true);
        let (mut hash, mut at) = (Xxh3::new(), 0);
        while at < object.bytes {
            let end = object.bytes.min(at + MAX_REQUEST_BYTES);
            hash.update(&object.read(at..end).await?);
            at = end;
        }
        Ok(hash.digest())
    }

    /// Returns the location of the file.
    pub fn location(&self) -> &Location {
        &self.object.location
    }

    pub(super) fn new(object: Object, groups: Vec<Group>) -> Self {
        let rows = groups.iter().map(|group| group.rows).sum();
        let (path, format) = (object.path.clone(), object.format);
        Self {
            path,
            format,
            first_row: 0,
            rows,
            groups,
            object,
        }
    }

    /// Returns the URL or path of the file, for messages.
    pub fn url(&self) -> &str {
        &self.object.location.url
    }

    /// Compares the row groups of the manifest with those of the file's footer.
    pub(super) fn check(&self, found: &[Group]) -> Result<()> {
        let same = |a: &Group, b: &Group| (a.rows, a.bytes) == (b.rows, b.bytes);
        if self.groups.len() == found.len()
            && self.groups.iter().zip(found).all(|(a, b)| same(a, b))
        {
            return Ok(());
        }
        let rows: u64 = found.iter().map(|group| group.rows).sum();
        Err(Error::Corrupt {
            shard: self.object.location.url.clone(),
            reason: format!(
                "{MANIFEST_NAME} says {} rows in {} row groups, the file has {rows} in {}, or row \
                 groups of other sizes, so one of the two was replaced\nhint: write the dataset again",
                self.rows,
                self.groups.len(),
                found.len()
            ),
        })
    }
}

impl Group {
    /// Describes a row group that only the manifest has; `growth` is that of the dataset's first shard.
    pub(super) fn listed(group: &ManifestGroup, growth: f64) -> Self {
        let &ManifestGroup { rows, bytes } = group;
        Self {
            rows,
            bytes,
            fetch_bytes: bytes,
            requests: n_requests(std::slice::from_ref(&(0..bytes))),
            memory: (bytes as f64 * growth) as u64 + rows * ROW_BYTES,
        }
    }

    /// Returns the size in memory as a multiple of the size in the file, without the memory per row.
    pub(super) fn growth(&self) -> f64 {
        (self.memory - self.rows * ROW_BYTES) as f64 / self.bytes.max(1) as f64
    }
}
