//! Leases: one writer per dataset or run. A lease is a small file or object with the name of its
//! holder and an expiry time.
//!
//! On one machine a lock on the file decides. It ends with its process, so the next writer can start
//! as soon as the first is killed. Where locks do not reach (another machine on a shared disk), a
//! second writer watches the file for as long as a lease is valid: a holder that renews it is alive.
//! In a store only the object's content decides, see [`object`]. Best effort: two machines that start
//! at the same moment may both succeed.

mod file;
mod holder;
mod object;

use std::fs::File;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use self::file::LeaseFile;
use self::object::LeaseObject;
use super::folder::Folder;
use crate::{Error, Result};

const RENEW_EVERY: Duration = Duration::from_secs(15);
const VALID_FOR: Duration = Duration::from_mins(1);
const RELEASE_WITHIN: Duration = Duration::from_secs(10);

/// A lease on a dataset or run, held until it is dropped.
#[derive(Debug)]
pub struct Lease {
    target: Target,
    stop: Option<Sender<()>>,
    /// Closed by the renewer thread after it released the lease.
    ended: Receiver<()>,
}

/// The file or object of a lease, to check its holder.
#[derive(Debug)]
enum Target {
    File(LeaseFile),
    Object(LeaseObject),
}

/// State of the renewer thread. `File` is the locked file.
enum Renewer {
    File(File, LeaseFile),
    Object(LeaseObject),
}

impl Lease {
    /// Takes the lease at `path` in `folder`.
    fn take(folder: &Folder, path: &str) -> Result<Self> {
        match folder.local() {
            Some(local) => {
                let target = LeaseFile {
                    path: local.join(path),
                    url: folder.url(),
                    valid_for: VALID_FOR,
                };
                let file = target.take()?;
                let renewer = Renewer::File(file, target.clone());
                Ok(Self::start(renewer, Target::File(target), RENEW_EVERY))
            }
            None if folder.is_read_only() => Err(Error::Config(vec![format!(
                "read-only: {}\nhint: write to a folder, or to s3://, gs:// or az://",
                folder.url()
            )])),
            None => Self::take_object(LeaseObject::new(folder, path, VALID_FOR), RENEW_EVERY),
        }
    }

    fn take_object(object: LeaseObject, renew_every: Duration) -> Result<Self> {
        object.take()?;
        let renewer = Renewer::Object(object.clone());
        Ok(Self::start(renewer, Target::Object(object), renew_every))
    }

    fn start(mut renewer: Renewer, target: Target, renew_every: Duration) -> Self {
        let (stop, stopped) = bounded::<()>(0);
        let (end, ended) = bounded::<()>(0);
        std::thread::spawn(move || {
            while stopped.recv_timeout(renew_every) == Err(RecvTimeoutError::Timeout) {
                renewer.renew();
            }
            renewer.release();
            drop(renewer); // Unlocks the file.
            drop(end);
        });
        Self {
            target,
            stop: Some(stop),
            ended,
        }
    }

    /// Checks that this process still holds the lease. Call it before each commit.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] if another process has taken the lease. That can happen after this process was
    /// suspended, or could not reach the store, for a minute.
    pub fn check(&self) -> Result<()> {
        match &self.target {
            Target::File(file) => file.check(),
            Target::Object(object) => object.check(),
        }
    }
}

impl Folder {
    /// Takes the lease at `path`, see [`Lease`].
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] if another process holds it; [`Error::Config`] if the store is read-only.
    pub fn lease(&self, path: &str) -> Result<Lease> {
        Lease::take(self, path)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        drop(self.stop.take());
        // No longer wait if the store does not answer: a lease that is not released expires.
        let _ = self.ended.recv_timeout(RELEASE_WITHIN);
    }
}

impl Renewer {
    fn renew(&mut self) {
        let renewed = match self {
            Self::File(file, target) => target.check().and_then(|()| target.write(file)),
            Self::Object(object) => object.renew(),
        };
        if let Err(error) = renewed {
            tracing::warn!("cannot renew the lease: {error}");
        }
    }

    /// Empties the file. Removing it would let two writers lock two files of one name.
    fn release(&mut self) {
        let released = match self {
            Self::File(file, target) => target
                .check()
                .and_then(|()| file.set_len(0).map_err(|source| target.io(source))),
            Self::Object(object) => object.release(),
        };
        if let Err(error) = released {
            tracing::warn!("cannot release the lease: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Instant;

    use super::holder::{Holder, host, unix_secs};
    use super::*;
    use crate::store::StoreOptions;

    fn open(folder: &Path) -> Folder {
        Folder::open(folder.to_str().unwrap(), &StoreOptions::default()).unwrap()
    }

    #[test]
    fn take_rejects_a_second_writer_until_the_first_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = open(folder.path());
        let first = Lease::take(&dataset, "lease.json").unwrap();
        let refused = Lease::take(&dataset, "lease.json").unwrap_err().to_string();
        assert!(
            refused.contains(&format!("process {}", std::process::id())),
            "{refused}"
        );
        first.check().unwrap();
        drop(first);
        Lease::take(&dataset, "lease.json").unwrap();
    }

    fn elsewhere(expires: u64) -> Holder {
        Holder {
            host: "elsewhere".to_owned(),
            pid: 7,
            expires,
        }
    }

    fn lease_file(folder: &Path, holder: &Holder) -> LeaseFile {
        let lease_file = LeaseFile {
            path: folder.join("lease.json"),
            url: folder.display().to_string(),
            valid_for: Duration::from_secs(1),
        };
        std::fs::write(&lease_file.path, serde_json::to_vec(holder).unwrap()).unwrap();
        lease_file
    }

    #[test]
    fn take_waits_for_another_machines_lease_to_expire() {
        let folder = tempfile::tempdir().unwrap();
        let since = Instant::now();
        let lease = lease_file(folder.path(), &elsewhere(unix_secs() + 1000));
        lease.take().unwrap();
        assert!(since.elapsed() >= lease.valid_for, "take did not wait");
        lease.check().unwrap();
        // A lease that expired long ago is not watched, though this one is valid for an hour.
        let mut lease = lease_file(folder.path(), &elsewhere(unix_secs() - 36_001));
        lease.valid_for = Duration::from_hours(1);
        lease.take().unwrap();
    }

    #[test]
    fn take_rejects_while_another_machine_renews() {
        let folder = tempfile::tempdir().unwrap();
        let mut lease = lease_file(folder.path(), &elsewhere(unix_secs() + 1000));
        lease.valid_for = Duration::from_mins(1);
        let renewer = std::thread::spawn({
            let path = lease.path.clone();
            let temporary = folder.path().join("renewed");
            move || {
                for i in 1..60 {
                    std::thread::sleep(Duration::from_millis(100));
                    let renewed = elsewhere(unix_secs() + 1000 + i);
                    // Written at once: a file that is empty for a moment counts as released.
                    std::fs::write(&temporary, serde_json::to_vec(&renewed).unwrap()).unwrap();
                    std::fs::rename(&temporary, &path).unwrap();
                }
            }
        });
        let refused = lease.take().unwrap_err().to_string();
        assert!(refused.contains("process 7 on elsewhere"), "{refused}");
        renewer.join().unwrap();
    }

    #[test]
    fn check_fails_after_another_process_took_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let lease = Lease::take(&open(folder.path()), "lease.json").unwrap();
        lease.check().unwrap();
        let other = serde_json::to_vec(&elsewhere(unix_secs() + 50)).unwrap();
        std::fs::write(folder.path().join("lease.json"), &other).unwrap();
        let lost = lease.check().unwrap_err().to_string();
        assert!(lost.contains("elsewhere"), "{lost}");
        drop(lease);
        let left = std::fs::read(folder.path().join("lease.json")).unwrap();
        assert_eq!(left, other, "drop released the lease of another process");
    }

    #[test]
    fn check_succeeds_after_the_file_was_removed() {
        let folder = tempfile::tempdir().unwrap();
        let lease = Lease::take(&open(folder.path()), "lease.json").unwrap();
        std::fs::remove_file(folder.path().join("lease.json")).unwrap();
        lease.check().unwrap();
    }

    #[test]
    fn take_rejects_read_only_stores_without_a_request() {
        for url in ["http://127.0.0.1:9/set", "hf://datasets/owner/name/set"] {
            let folder = Folder::open(url, &StoreOptions::default()).unwrap();
            let refused = Lease::take(&folder, "lease.json").unwrap_err();
            assert!(matches!(refused, Error::Config(_)), "{refused}");
            assert!(refused.to_string().contains(url), "{refused}");
        }
    }

    #[test]
    fn take_ignores_a_killed_writer_of_this_machine() {
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
