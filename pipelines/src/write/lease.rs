//! One writer per set: a small file that says who writes, and until when to believe it.
//!
//! On one machine a lock on the file decides, and it dies with its process, so a killed writer is
//! succeeded at once. Where locks do not reach (another machine on a shared disk) the file's word
//! holds until it expires. Best effort: two machines that begin in the same instant both succeed.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

const RENEW_EVERY: Duration = Duration::from_secs(15);
const VALID_FOR: Duration = Duration::from_mins(1);

/// Held while a set is written; given back when dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    stop: Option<Sender<()>>,
    renewer: Option<JoinHandle<()>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Holder {
    host: String,
    pid: u32,
    /// Seconds since 1970.
    expires: u64,
}

impl Lease {
    /// Takes the lease at `path` for the set `url`, or says who holds it.
    pub(crate) fn take(path: &Path, url: &Path) -> Result<Self> {
        let io = |source| Error::Io {
            path: path.to_owned(),
            source,
        };
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
            Err(TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => {
                false
            }
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
                    format!(
                        "process {} on {}, lease good for {} s",
                        h.pid,
                        h.host,
                        h.expires.saturating_sub(now)
                    )
                },
            );
            return Err(Error::Busy {
                url: url.display().to_string(),
                holder,
            });
        }
        write_holder(&mut file).map_err(io)?;
        let (stop, stopped) = bounded::<()>(0);
        let path = path.to_owned();
        let renewer = std::thread::spawn(move || {
            while stopped.recv_timeout(RENEW_EVERY) == Err(RecvTimeoutError::Timeout) {
                if let Err(error) = write_holder(&mut file) {
                    tracing::warn!(
                        "{}: the lease could not be renewed: {error}",
                        path.display()
                    );
                }
            }
            release(&mut file, &path);
        });
        Ok(Self {
            stop: Some(stop),
            renewer: Some(renewer),
        })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        drop(self.stop.take());
        // The renewer cannot panic, and a lease that is not given back expires.
        let _ = self.renewer.take().map(JoinHandle::join);
    }
}

/// The file stays (removing it would let two writers lock two files of one name), emptied.
fn release(file: &mut File, path: &Path) {
    if let Err(error) = file.set_len(0) {
        tracing::warn!("{}: the lease was not given back: {error}", path.display());
    }
}

fn write_holder(file: &mut File) -> std::io::Result<()> {
    let holder = Holder {
        host: host(),
        pid: std::process::id(),
        expires: unix_secs() + VALID_FOR.as_secs(),
    };
    let mut text = serde_json::to_vec(&holder)?;
    text.push(b'\n');
    file.rewind()?;
    file.write_all(&text)?;
    file.set_len(text.len() as u64)
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

    #[test]
    fn a_second_writer_is_refused_until_the_first_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lease.json");
        let first = Lease::take(&path, folder.path()).unwrap();
        let refused = Lease::take(&path, folder.path()).unwrap_err().to_string();
        assert!(
            refused.contains(&format!("process {}", std::process::id())),
            "{refused}"
        );
        drop(first);
        Lease::take(&path, folder.path()).unwrap();
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
        let refused = Lease::take(&path, folder.path()).unwrap_err().to_string();
        assert!(refused.contains("process 7 on elsewhere"), "{refused}");
        write(unix_secs() - 1);
        Lease::take(&path, folder.path()).unwrap();
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
        Lease::take(&path, folder.path()).unwrap();
    }
}
