//! The files of a dataset: shards and their row groups.

use xxhash_rust::xxh3::Xxh3;

use super::fetch::{MAX_PIECE, Object, ShardFormat, n_requests};
use super::manifest::{MANIFEST_NAME, ManifestGroup};
use super::rows::ROW_BYTES;
use crate::store::Location;
use crate::{Error, Result};

/// One shard of a dataset.
#[derive(Debug, Clone)]
pub struct Shard {
    /// Path relative to the dataset's folder.
    pub path: String,
    /// How the file is written.
    pub format: ShardFormat,
    /// Number of its first row in the whole dataset.
    pub first_row: u64,
    /// Rows.
    pub rows: u64,
    /// Row groups (Parquet) or record batches (Arrow IPC), in file order.
    pub groups: Vec<Group>,
    pub(super) object: Object,
}

/// A row group of a Parquet shard, or a record batch of an Arrow one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// Rows.
    pub rows: u64,
    /// Bytes in the file, of all columns.
    pub bytes: u64,
    /// Bytes that reading it fetches; with a manifest, at most.
    pub fetch_bytes: u64,
    /// Requests for them; with a manifest, about.
    pub requests: u32,
    /// Memory that reading it takes at most, as far as is known before: fetched and decoded bytes.
    pub memory: u64,
}

impl Shard {
    /// XXH3-64 of the whole file, read piece by piece and past any cache.
    pub(crate) async fn hash(&self) -> Result<u64> {
        let object = self.object.way(true);
        let (mut hash, mut at) = (Xxh3::new(), 0);
        while at < object.bytes {
            let end = object.bytes.min(at + MAX_PIECE);
            hash.update(&object.read(at..end).await?);
            at = end;
        }
        Ok(hash.digest())
    }

    /// Where the file lies.
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

    /// The shard's place, for messages.
    pub fn url(&self) -> &str {
        &self.object.location.url
    }

    /// Compares what the manifest said with the file's own footer.
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
                 groups of other sizes: one of them was replaced; write the dataset again",
                self.rows,
                self.groups.len(),
                found.len()
            ),
        })
    }
}

impl Group {
    /// A group of which the manifest alone is known; `growth` is that of the dataset's first shard.
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

    /// How much larger the group is in memory than in the file, beside what each row takes.
    pub(super) fn growth(&self) -> f64 {
        (self.memory - self.rows * ROW_BYTES) as f64 / self.bytes.max(1) as f64
    }
}
