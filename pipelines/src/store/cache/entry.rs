//! One entry of a cache: its file name and file format.

use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

/// Number of buckets, which are subfolders.
pub(super) const BUCKETS: u128 = 16;
/// First bytes of an entry; the XXH3-64 of its data follows, then the data.
const MAGIC: [u8; 8] = *b"USTCACH1";
pub(super) const HEADER: usize = 16;
/// Extensions of entries and of unfinished ones.
const ENTRY: &str = "understudy-range";
pub(super) const PARTIAL: &str = "understudy-part";
/// Minimum time between two updates of an entry's time of last use.
const UPDATE_USE_EVERY: Duration = Duration::from_mins(10);

/// The key of an entry, which is also its file name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key(pub(super) u128);

impl Key {
    /// Hashes a range of bytes of one version of an object.
    pub(crate) fn new(url: &str, e_tag: &str, range: &Range<u64>) -> Self {
        let mut text = Vec::with_capacity(url.len() + e_tag.len() + 24);
        for part in [url, e_tag] {
            text.extend_from_slice(&(part.len() as u64).to_le_bytes());
            text.extend_from_slice(part.as_bytes());
        }
        text.extend_from_slice(&range.start.to_le_bytes());
        text.extend_from_slice(&range.end.to_le_bytes());
        Self(xxh3_128(&text))
    }

    pub(super) fn bucket(self) -> String {
        format!("{:x}", self.0 % BUCKETS)
    }

    pub(super) fn name(self) -> String {
        format!("{:032x}.{ENTRY}", self.0)
    }
}

/// Kind of a file in a bucket, by its extension.
pub(super) enum EntryKind {
    Entry,
    Partial,
}

impl EntryKind {
    pub(super) fn of(name: &str) -> Option<Self> {
        match name.rsplit_once('.')?.1 {
            ENTRY => Some(Self::Entry),
            PARTIAL => Some(Self::Partial),
            _ => None,
        }
    }
}

/// Reads an entry and checks its hash. Updates its time of last use.
pub(super) fn read(path: &Path) -> io::Result<Bytes> {
    let mut file = File::open(path)?;
    let meta = file.metadata()?;
    let mut bytes = Vec::with_capacity(meta.len() as usize + 1);
    file.read_to_end(&mut bytes)?;
    let bytes = Bytes::from(bytes);
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, "damaged");
    let (header, body) = bytes.split_at_checked(HEADER).ok_or_else(damaged)?;
    if header[..8] != MAGIC || header[8..] != xxh3_64(body).to_le_bytes() {
        return Err(damaged());
    }
    let age = SystemTime::now().duration_since(meta.modified()?);
    if age.is_ok_and(|age| age > UPDATE_USE_EVERY) {
        // May fail in a read-only cache, which is still useful.
        let _noted = file.set_modified(SystemTime::now());
    }
    Ok(bytes.slice(HEADER..))
}

/// Writes a new file with header and data.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(&MAGIC)?;
    file.write_all(&xxh3_64(bytes).to_le_bytes())?;
    file.write_all(bytes)
}
