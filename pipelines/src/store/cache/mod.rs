//! A cache of ranges of remote objects on a local disk.
//!
//! An entry is a file named by the hash of the object's URL, its `ETag` and the range. Entries are
//! never invalidated: a changed object has other names. An entry is written under a temporary name
//! and renamed when it is complete, and it contains a hash of its bytes. Damage by a kill, a power
//! cut or a bad disk is detected; the entry is removed and read from the store again.
//!
//! Several processes can share a folder. It has [`BUCKETS`] buckets, each with an equal share of the
//! size. A process that adds to a bucket holds a lock on it, which ends with the process, and evicts
//! the least recently used entries. Other files in the folder are never touched.
//!
//! The cache never fails a read: if it cannot be written, data comes from the store.

mod entry;

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

pub(crate) use self::entry::Key;
use self::entry::{BUCKETS, EntryKind, HEADER, PARTIAL, read, write};
use super::options::CacheOptions;

const LOCK: &str = "understudy-lock";
/// Age after which a partial file counts as left by a killed process.
const PARTIAL_EXPIRES_AFTER: Duration = Duration::from_hours(1);
/// Time without writes after a write that failed.
const PAUSE: Duration = Duration::from_secs(30);

/// A cache in a local folder, which several processes may share.
#[derive(Debug)]
pub(crate) struct Cache {
    options: CacheOptions,
    n_written: AtomicU64,
    /// Time until which nothing is written.
    paused_until: Mutex<Option<Instant>>,
    counts: CacheCounts,
}

/// Counters of one process.
#[derive(Debug, Default)]
struct CacheCounts {
    hits: AtomicU64,
    misses: AtomicU64,
    damaged: AtomicU64,
    evicted: AtomicU64,
}

impl Cache {
    /// Makes the folder if it is missing, and evicts entries down to its size.
    pub(crate) fn open(options: CacheOptions) -> io::Result<Arc<Self>> {
        let cache = Self {
            options,
            n_written: AtomicU64::new(0),
            paused_until: Mutex::default(),
            counts: CacheCounts::default(),
        };
        for bucket in 0..BUCKETS {
            let bucket = cache.options.folder.join(format!("{bucket:x}"));
            fs::create_dir_all(&bucket)?;
            // Removes files of killed processes, also on a full disk, and applies a smaller size now.
            if let Some(_lock) = lock(&bucket)? {
                cache.make_room(&bucket, 0)?;
            }
        }
        Ok(Arc::new(cache))
    }

    /// Reads an entry; `None` if it is missing or damaged. Removes a damaged one.
    pub(crate) fn get(&self, key: Key) -> Option<Bytes> {
        let path = self.path(key);
        let entry = match read(&path) {
            Ok(entry) => Some(entry),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(
                    "cannot read cache entry {}: {error}; reading from the store",
                    path.display()
                );
                self.counts.damaged.fetch_add(1, Relaxed);
                let _gone = fs::remove_file(&path);
                None
            }
        };
        let counts = &self.counts;
        match &entry {
            Some(_) => counts.hits.fetch_add(1, Relaxed),
            None => counts.misses.fetch_add(1, Relaxed),
        };
        entry
    }

    /// Writes an entry if it fits into a bucket. Replaces one of the same name.
    pub(crate) fn put(&self, key: Key, bytes: &[u8]) {
        let needed = (bytes.len() + HEADER) as u64;
        if needed > self.options.bytes / BUCKETS as u64 || self.is_paused() {
            return;
        }
        let bucket = self.options.folder.join(key.bucket());
        let n = self.n_written.fetch_add(1, Relaxed);
        let partial = bucket.join(format!(
            "{:032x}-{}-{n}.{PARTIAL}",
            key.0,
            std::process::id()
        ));
        let put = write(&partial, bytes).and_then(|()| {
            // No wait for the lock: its process may be stopped.
            let Some(_lock) = lock(&bucket)? else {
                return fs::remove_file(&partial);
            };
            self.make_room(&bucket, needed)?;
            fs::rename(&partial, self.path(key))
        });
        if let Err(error) = put {
            let _gone = fs::remove_file(&partial);
            tracing::warn!(
                "cannot write to cache {}: {error}; no writes for {} s, data comes from the store",
                bucket.display(),
                PAUSE.as_secs()
            );
            let mut until = self
                .paused_until
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *until = Some(Instant::now() + PAUSE);
        }
    }

    pub(crate) fn hits_and_misses(&self) -> (u64, u64) {
        let CacheCounts { hits, misses, .. } = &self.counts;
        (hits.load(Relaxed), misses.load(Relaxed))
    }

    fn path(&self, key: Key) -> PathBuf {
        self.options.folder.join(key.bucket()).join(key.name())
    }

    fn is_paused(&self) -> bool {
        let mut until = self
            .paused_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        until.take_if(|until| *until <= Instant::now());
        until.is_some()
    }

    /// Evicts the least recently used entries until `needed` more bytes fit into the bucket.
    fn make_room(&self, bucket: &Path, needed: u64) -> io::Result<()> {
        let mut entries = Vec::new();
        let mut held = 0;
        for entry in fs::read_dir(bucket)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(kind) = EntryKind::of(&name.to_string_lossy()) else {
                continue;
            };
            // Another process may have removed it.
            let Ok(meta) = entry.metadata() else {
                continue;
            };
            let used = meta.modified()?;
            match kind {
                EntryKind::Entry => {
                    held += meta.len();
                    entries.push((used, meta.len(), entry.path()));
                }
                EntryKind::Partial => {
                    let age = SystemTime::now().duration_since(used).unwrap_or_default();
                    if age > PARTIAL_EXPIRES_AFTER {
                        fs::remove_file(entry.path())?;
                    }
                }
            }
        }
        entries.sort_unstable();
        let limit = self.options.bytes / BUCKETS as u64;
        for (_, bytes, path) in entries {
            if held + needed <= limit {
                break;
            }
            fs::remove_file(path)?;
            self.counts.evicted.fetch_add(1, Relaxed);
            held -= bytes;
        }
        Ok(())
    }
}

/// Locks a bucket; `None` if another process holds the lock. The kernel releases it when the process
/// ends.
fn lock(bucket: &Path) -> io::Result<Option<File>> {
    let file = File::create(bucket.join(LOCK))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        // A file system without locks: two writers can exceed the size by one entry.
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
            Ok(Some(file))
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(folder: &Path, bytes: u64) -> Arc<Cache> {
        let folder = folder.to_owned();
        Cache::open(CacheOptions { folder, bytes }).expect("a folder")
    }

    fn key(i: u64) -> Key {
        Key::new("s3://bucket/a", "\"1\"", &(i..i + 1))
    }

    fn held(folder: &Path) -> u64 {
        let files = walkdir::WalkDir::new(folder).into_iter().flatten();
        let sizes = files.filter_map(|file| file.metadata().ok());
        sizes
            .filter(fs::Metadata::is_file)
            .map(|meta| meta.len())
            .sum()
    }

    #[test]
    fn get_returns_the_entry_of_the_same_version_and_range() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = cache(folder.path(), 1 << 20);
        cache.put(key(1), b"one");
        assert_eq!(cache.get(key(1)).as_deref(), Some(&b"one"[..]));
        for other in [
            Key::new("s3://bucket/a", "\"2\"", &(1..2)),
            Key::new("s3://bucket/b", "\"1\"", &(1..2)),
            Key::new("s3://bucket/a", "\"1\"", &(1..3)),
        ] {
            assert_eq!(cache.get(other), None);
        }
    }

    #[test]
    fn damaged_entry_is_removed_and_can_be_written_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = cache(folder.path(), 1 << 20);
        for damage in ["a bit", "half", "header", "all"] {
            cache.put(key(1), b"something");
            let path = cache.path(key(1));
            let mut bytes = fs::read(&path).expect("kept");
            match damage {
                "a bit" => bytes[HEADER + 1] ^= 1,
                "half" => bytes.truncate(HEADER + 2),
                "header" => bytes.truncate(3),
                _ => bytes.clear(),
            }
            fs::write(&path, bytes).expect("damaged");
            assert_eq!(cache.get(key(1)), None);
            assert!(!path.exists());
        }
        cache.put(key(1), b"something");
        assert_eq!(cache.get(key(1)).as_deref(), Some(&b"something"[..]));
        assert_eq!(cache.counts.damaged.load(Relaxed), 4);
    }

    #[test]
    fn cache_keeps_to_its_size_and_leaves_other_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let limit = 64 << 10;
        let cache = cache(folder.path(), limit);
        let theirs = folder.path().join("0/notes.txt");
        fs::write(&theirs, "mine").expect("written");
        for i in 0..400 {
            cache.put(key(i), &[i as u8; 1000]);
            assert!(held(folder.path()) - 4 <= limit);
        }
        assert!(held(folder.path()) > limit / 2, "it is used");
        assert!(cache.counts.evicted.load(Relaxed) > 300);
        assert!(theirs.exists());
        cache.put(key(1000), &vec![0; limit as usize]);
        assert_eq!(cache.get(key(1000)), None, "larger than a bucket");
    }

    #[test]
    fn put_skips_a_locked_bucket() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = cache(folder.path(), 1 << 20);
        let held = lock(&folder.path().join(key(1).bucket())).expect("a lock");
        assert!(held.is_some());
        cache.put(key(1), b"one");
        assert_eq!(cache.get(key(1)), None);
        assert!(!cache.is_paused(), "nothing is wrong");
        drop(held);
        cache.put(key(1), b"one");
        assert!(cache.get(key(1)).is_some());
    }

    #[test]
    fn least_recently_used_entry_is_evicted_first() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = cache(folder.path(), 16 * 2500);
        let same: Vec<Key> = (0..)
            .map(key)
            .filter(|key| key.bucket() == "3")
            .take(3)
            .collect();
        let hour = Duration::from_hours(1);
        for (i, &key) in same[..2].iter().enumerate() {
            cache.put(key, &[0; 1000]);
            let file = File::options()
                .write(true)
                .open(cache.path(key))
                .expect("kept");
            let then = SystemTime::now() - hour * (5 - i as u32);
            file.set_modified(then).expect("aged");
        }
        assert!(cache.get(same[0]).is_some(), "the older one is used again");
        cache.put(same[2], &[0; 1000]);
        assert!(cache.get(same[1]).is_none());
        assert!(cache.get(same[0]).is_some() && cache.get(same[2]).is_some());
    }

    #[test]
    fn failed_write_pauses_the_cache_without_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = cache(folder.path(), 1 << 20);
        let bucket = folder.path().join(key(1).bucket());
        fs::remove_dir_all(&bucket).expect("ours");
        fs::write(&bucket, "a file in its place").expect("written");
        cache.put(key(1), b"one");
        assert_eq!(cache.get(key(1)), None);
        assert!(cache.is_paused());
    }

    #[test]
    fn partial_files_of_killed_processes_expire() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = cache(folder.path(), 1 << 20);
        let bucket = folder.path().join(key(1).bucket());
        let [old, young] =
            ["1", "2"].map(|n| bucket.join(format!("{:032x}-7-{n}.{PARTIAL}", key(1).0)));
        for path in [&old, &young] {
            fs::write(path, "half").expect("written");
        }
        let file = File::options().write(true).open(&old).expect("there");
        file.set_modified(SystemTime::now() - PARTIAL_EXPIRES_AFTER * 2)
            .expect("aged");
        cache.put(key(1), b"one");
        assert!(!old.exists() && young.exists());
    }
}
