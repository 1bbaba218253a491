//! One entry of a cache: its name and the bytes of its file.

use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

/// Parts of the folder.
pub(super) const BUCKETS: u128 = 16;
/// Before the bytes: these, and their hash.
const MAGIC: [u8; 8] = *b"USTCACH1";
pub(super) const HEADER: usize = 16;
/// How the names of entries end, and those of unfinished ones.
const ENTRY: &str = "understudy-range";
pub(super) const PARTIAL: &str = "understudy-part";
/// When an entry was last used is noted no more often than this.
const NOTE_USE_EVERY: Duration = Duration::from_mins(10);

/// The name of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key(pub(super) u128);

impl Key {
    /// Of a range of one version of an object.
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

/// The files of a cache, by their names.
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

/// An entry's bytes.
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
    if age.is_ok_and(|age| age > NOTE_USE_EVERY) {
        // A cache that may only be read serves all the same.
        let _noted = file.set_modified(SystemTime::now());
    }
    Ok(bytes.slice(HEADER..))
}

pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(&MAGIC)?;
    file.write_all(&xxh3_64(bytes).to_le_bytes())?;
    file.write_all(bytes)
}
