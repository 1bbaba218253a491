//! One writer per set or run: a small file or object that says who writes, and until when to
//! believe it.
//!
//! On one machine a lock on the file decides, and it dies with its process, so a killed writer is
//! succeeded at once. Where locks do not reach (another machine on a shared disk) the file's words
//! are watched for as long as they are good: a holder that renews them is alive. In a store the
//! object's words are all there is, see [`object`]. Best effort: two machines that begin in the same
//! instant may both succeed.

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

/// Held while a set or a run is written; given back when dropped.
#[derive(Debug)]
pub struct Lease {
    place: Place,
    stop: Option<Sender<()>>,
    /// Says, by closing, that the renewer has given the lease back.
    ended: Receiver<()>,
}

/// Where another writer may have taken it.
#[derive(Debug)]
enum Place {
    File(LeaseFile),
    Object(LeaseObject),
}

/// What the renewer keeps; a file with its lock.
enum Kept {
    File(File, LeaseFile),
    Object(LeaseObject),
}

impl Lease {
    /// Takes the lease at `path` in `folder`, or says who holds it.
    fn take(folder: &Folder, path: &str) -> Result<Self> {
        match folder.local() {
            Some(local) => {
                let place = LeaseFile {
                    path: local.join(path),
                    url: folder.url(),
                    valid_for: VALID_FOR,
                };
                let file = place.take()?;
                let kept = Kept::File(file, place.clone());
                Ok(Self::keep(kept, Place::File(place), RENEW_EVERY))
            }
            None if folder.is_read_only() => Err(Error::Config(vec![format!(
                "{}: can be read, not written; write to a folder, or to s3://, gs:// or az://",
                folder.url()
            )])),
            None => Self::take_object(LeaseObject::new(folder, path, VALID_FOR), RENEW_EVERY),
        }
    }

    fn take_object(object: LeaseObject, renew_every: Duration) -> Result<Self> {
        object.take()?;
        let kept = Kept::Object(object.clone());
        Ok(Self::keep(kept, Place::Object(object), renew_every))
    }

    fn keep(mut kept: Kept, place: Place, renew_every: Duration) -> Self {
        let (stop, stopped) = bounded::<()>(0);
        let (end, ended) = bounded::<()>(0);
        std::thread::spawn(move || {
            while stopped.recv_timeout(renew_every) == Err(RecvTimeoutError::Timeout) {
                kept.renew();
            }
            kept.release();
            drop(kept); // With its lock.
            drop(end);
        });
        Self {
            place,
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
        match &self.place {
            Place::File(file) => file.check(),
            Place::Object(object) => object.check(),
        }
    }
}

impl Folder {
    /// Takes the lease at `path` for this process alone, see [`Lease`].
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] where another writer is at work.
    pub fn lease(&self, path: &str) -> Result<Lease> {
        Lease::take(self, path)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        drop(self.stop.take());
        // A store that does not answer is not waited for: a lease that is not given back expires.
        let _ = self.ended.recv_timeout(RELEASE_WITHIN);
    }
}

impl Kept {
    fn renew(&mut self) {
        let renewed = match self {
            Self::File(file, place) => place.check().and_then(|()| place.write(file)),
            Self::Object(object) => object.renew(),
        };
        if let Err(error) = renewed {
            tracing::warn!("the lease could not be renewed: {error}");
        }
    }

    /// A file stays (removing it would let two writers lock two files of one name), emptied.
    fn release(&mut self) {
        let released = match self {
            Self::File(file, place) => place
                .check()
                .and_then(|()| file.set_len(0).map_err(|source| place.io(source))),
            Self::Object(object) => object.release(),
        };
        if let Err(error) = released {
            tracing::warn!("the lease was not given back: {error}");
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

    fn elsewhere(expires: u64) -> Holder {
        Holder {
            host: "elsewhere".to_owned(),
            pid: 7,
            expires,
        }
    }

    fn place(folder: &Path, holder: &Holder) -> LeaseFile {
        let place = LeaseFile {
            path: folder.join("lease.json"),
            url: folder.display().to_string(),
            valid_for: Duration::from_secs(1),
        };
        std::fs::write(&place.path, serde_json::to_vec(holder).unwrap()).unwrap();
        place
    }

    #[test]
    fn another_machine_is_watched_for_as_long_as_its_lease_is_good() {
        let folder = tempfile::tempdir().unwrap();
        let since = Instant::now();
        let lease = place(folder.path(), &elsewhere(unix_secs() + 1000));
        lease.take().unwrap();
        assert!(since.elapsed() >= lease.valid_for, "it was not waited for");
        lease.check().unwrap();
        // One that expired long ago is not watched, though this one would be for an hour.
        let mut lease = place(folder.path(), &elsewhere(unix_secs() - 36_001));
        lease.valid_for = Duration::from_hours(1);
        lease.take().unwrap();
    }

    #[test]
    fn another_machine_that_renews_its_lease_is_believed() {
        let folder = tempfile::tempdir().unwrap();
        let mut lease = place(folder.path(), &elsewhere(unix_secs() + 1000));
        lease.valid_for = Duration::from_mins(1);
        let renewer = std::thread::spawn({
            let path = lease.path.clone();
            let beside = folder.path().join("renewed");
            move || {
                for i in 1..60 {
                    std::thread::sleep(Duration::from_millis(100));
                    let renewed = elsewhere(unix_secs() + 1000 + i);
                    // Whole at once: a file that is empty for a moment is one that was given back.
                    std::fs::write(&beside, serde_json::to_vec(&renewed).unwrap()).unwrap();
                    std::fs::rename(&beside, &path).unwrap();
                }
            }
        });
        let refused = lease.take().unwrap_err().to_string();
        assert!(refused.contains("process 7 on elsewhere"), "{refused}");
        renewer.join().unwrap();
    }

    #[test]
    fn a_writer_that_lost_its_file_may_not_commit() {
        let folder = tempfile::tempdir().unwrap();
        let lease = Lease::take(&open(folder.path()), "lease.json").unwrap();
        lease.check().unwrap();
        let other = serde_json::to_vec(&elsewhere(unix_secs() + 50)).unwrap();
        std::fs::write(folder.path().join("lease.json"), &other).unwrap();
        let lost = lease.check().unwrap_err().to_string();
        assert!(lost.contains("elsewhere"), "{lost}");
        drop(lease);
        let left = std::fs::read(folder.path().join("lease.json")).unwrap();
        assert_eq!(left, other, "it was given back in another's name");
    }

    #[test]
    fn a_lease_whose_file_was_removed_is_still_held() {
        let folder = tempfile::tempdir().unwrap();
        let lease = Lease::take(&open(folder.path()), "lease.json").unwrap();
        std::fs::remove_file(folder.path().join("lease.json")).unwrap();
        lease.check().unwrap();
    }

    #[test]
    fn what_can_only_be_read_is_refused_before_anything_is_sent() {
        for url in ["http://127.0.0.1:9/set", "hf://datasets/owner/name/set"] {
            let folder = Folder::open(url, &StoreOptions::default()).unwrap();
            let refused = Lease::take(&folder, "lease.json").unwrap_err();
            assert!(matches!(refused, Error::Config(_)), "{refused}");
            assert!(refused.to_string().contains(url), "{refused}");
        }
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
