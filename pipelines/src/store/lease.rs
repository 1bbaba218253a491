//! One writer per set or run: a small file or object that says who writes, and until when to
//! believe it.
//!
//! On one machine a lock on the file decides, and it dies with its process, so a killed writer is
//! succeeded at once. Where locks do not reach (another machine on a shared disk) the file's word
//! holds until it expires. In a store the object's word is all there is, see [`object`]. Best effort:
//! two machines that begin in the same instant may both succeed.

mod object;

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use serde::{Deserialize, Serialize};

use self::object::LeaseObject;
use super::Folder;
use crate::{Error, Result};

const RENEW_EVERY: Duration = Duration::from_secs(15);
const VALID_FOR: Duration = Duration::from_mins(1);
const GIVE_BACK_WITHIN: Duration = Duration::from_secs(10);

/// Held while a set or a run is written; given back when dropped.
#[derive(Debug)]
pub struct Lease {
    /// In a store, where another may have taken it.
    object: Option<LeaseObject>,
    stop: Option<Sender<()>>,
    /// Says, by closing, that the renewer has given the lease back.
    ended: Receiver<()>,
}

/// Who writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Holder {
    host: String,
    pid: u32,
    /// Seconds since 1970.
    expires: u64,
}

/// What the renewer keeps.
enum Kept {
    File(File, PathBuf),
    Object(LeaseObject),
}

impl Lease {
    /// Takes the lease at `path` in `folder`, or says who holds it.
    pub(super) fn take(folder: &Folder, path: &str) -> Result<Self> {
        match folder.local() {
            Some(local) => {
                let path = local.join(path);
                let file = take_file(&path, &folder.url())?;
                Ok(Self::keep(Kept::File(file, path), None, RENEW_EVERY))
            }
            None => Self::take_object(LeaseObject::new(folder, path, VALID_FOR), RENEW_EVERY),
        }
    }

    fn take_object(object: LeaseObject, renew_every: Duration) -> Result<Self> {
        object.take()?;
        let kept = Kept::Object(object.clone());
        Ok(Self::keep(kept, Some(object), renew_every))
    }

    fn keep(mut kept: Kept, object: Option<LeaseObject>, renew_every: Duration) -> Self {
        let (stop, stopped) = bounded::<()>(0);
        let (end, ended) = bounded::<()>(0);
        std::thread::spawn(move || {
            while stopped.recv_timeout(renew_every) == Err(RecvTimeoutError::Timeout) {
                kept.renew();
            }
            kept.give_back();
            drop(kept); // With its lock.
            drop(end);
        });
        Self {
            object,
            stop: Some(stop),
            ended,
        }
    }

    /// Whether this writer may still commit.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] where another has taken the lease, as it may after this process slept, or was
    /// cut off from the store, for a minute.
    pub fn check(&self) -> Result<()> {
        self.object.as_ref().map_or(Ok(()), LeaseObject::check)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        drop(self.stop.take());
        // A store that does not answer is not waited for: a lease that is not given back expires.
        let _ = self.ended.recv_timeout(GIVE_BACK_WITHIN);
    }
}

impl Kept {
    fn renew(&mut self) {
        match self {
            Self::File(file, path) => {
                if let Err(error) = write_holder(file) {
                    let path = path.display();
                    tracing::warn!("{path}: the lease could not be renewed: {error}");
                }
            }
            Self::Object(object) => {
                if let Err(error) = object.renew() {
                    tracing::warn!("the lease could not be renewed: {error}");
                }
            }
        }
    }

    /// A file stays (removing it would let two writers lock two files of one name), emptied.
    fn give_back(&mut self) {
        match self {
            Self::File(file, path) => {
                if let Err(error) = file.set_len(0) {
                    let path = path.display();
                    tracing::warn!("{path}: the lease was not given back: {error}");
                }
            }
            Self::Object(object) => {
                if let Err(error) = object.give_back() {
                    tracing::warn!("the lease was not given back: {error}");
                }
            }
        }
    }
}

/// Locks the file at `path`, which says who writes the folder `url`.
fn take_file(path: &Path, url: &str) -> Result<File> {
    let io = |source| Error::Io {
        path: path.to_owned(),
        source,
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(io)?;
    }
    let mut options = File::options();
    let mut file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(io)?;
    let locked = match file.try_lock() {
        Ok(()) => false,
        Err(TryLockError::WouldBlock) => true,
        // A file system without locks: the words in the file decide.
        Err(TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => false,
        Err(TryLockError::Error(error)) => return Err(io(error)),
    };
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(io)?;
    let holder: Option<Holder> = serde_json::from_str(&text).ok();
    let now = unix_secs();
    let alive_elsewhere = holder
        .as_ref()
        .is_some_and(|h| h.host != host() && h.expires > now);
    if locked || alive_elsewhere {
        let holder = holder.map_or_else(
            || "another process on this machine".to_owned(),
            |h| {
                let left = h.expires.saturating_sub(now);
                format!("{}, lease good for {left} s", h.name())
            },
        );
        let url = url.to_owned();
        return Err(Error::Busy { url, holder });
    }
    write_holder(&mut file).map_err(io)?;
    Ok(file)
}

fn write_holder(file: &mut File) -> std::io::Result<()> {
    let mut text = serde_json::to_vec(&Holder::until(VALID_FOR))?;
    text.push(b'\n');
    file.rewind()?;
    file.write_all(&text)?;
    file.set_len(text.len() as u64)
}

impl Holder {
    /// This process, from now on.
    fn until(valid_for: Duration) -> Self {
        Self {
            host: host(),
            pid: std::process::id(),
            expires: unix_secs() + valid_for.as_secs(),
        }
    }

    fn name(&self) -> String {
        format!("process {} on {}", self.pid, self.host)
    }
}

fn unix_secs() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "this machine".to_owned(), |name| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreOptions;

    fn open(folder: &Path) -> Folder {
        Folder::open(folder.to_str().unwrap(), &StoreOptions::default()).unwrap()
    }

    #[test]
    fn a_second_writer_is_refused_until_the_first_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let set = open(folder.path());
        let first = Lease::take(&set, "lease.json").unwrap();
        let refused = Lease::take(&set, "lease.json").unwrap_err().to_string();
        assert!(
            refused.contains(&format!("process {}", std::process::id())),
            "{refused}"
        );
        first.check().unwrap();
        drop(first);
        Lease::take(&set, "lease.json").unwrap();
    }

    #[test]
    fn another_machine_is_believed_until_its_lease_expires() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lease.json");
        let write = |expires| {
            let holder = Holder {
                host: "elsewhere".to_owned(),
                pid: 7,
                expires,
            };
            std::fs::write(&path, serde_json::to_vec(&holder).unwrap()).unwrap();
        };
        write(unix_secs() + 50);
        let refused = Lease::take(&open(folder.path()), "lease.json")
            .unwrap_err()
            .to_string();
        assert!(refused.contains("process 7 on elsewhere"), "{refused}");
        write(unix_secs() - 1);
        Lease::take(&open(folder.path()), "lease.json").unwrap();
    }

    #[test]
    fn a_killed_writer_of_this_machine_is_succeeded_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lease.json");
        let holder = Holder {
            host: host(),
            pid: 7,
            expires: unix_secs() + 50,
        };
        std::fs::write(&path, serde_json::to_vec(&holder).unwrap()).unwrap();
        Lease::take(&open(folder.path()), "lease.json").unwrap();
    }
}
