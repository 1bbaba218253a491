//! The lease as an object in a store, where there is no lock.
//!
//! Whoever comes second watches whether the lease is renewed: if so, it is refused; if not for as
//! long as a lease is good, it takes over, so no two clocks are compared. A process that is gone
//! from this very machine is succeeded at once. A writer that finds another's name in its lease
//! stops; so of two that began in the same instant, the first is stopped before it commits.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::holder::Holder;
use crate::store::folder::Folder;
use crate::{Error, Result};

#[derive(Debug, Clone)]
pub(super) struct LeaseObject {
    folder: Folder,
    path: String,
    valid_for: Duration,
    mine: Identity,
}

/// What the object holds; one that is given back is empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Word {
    #[serde(flatten)]
    holder: Holder,
    #[serde(flatten)]
    identity: Identity,
    /// Counts up, so that a lease that is renewed can be told from one that is not.
    renewed_nanos: u64,
}

/// What tells this lease from every other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    /// The boot and the process namespace in which the holder has its number; empty if unknown.
    machine: String,
    /// When it was taken, in nanoseconds since 1970.
    taken_nanos: u64,
}

impl LeaseObject {
    pub(super) fn new(folder: &Folder, path: &str, valid_for: Duration) -> Self {
        Self {
            folder: folder.clone(),
            path: path.to_owned(),
            valid_for,
            mine: Identity {
                machine: machine(),
                taken_nanos: unix_nanos(),
            },
        }
    }

    /// Takes it, perhaps after a wait for one that a killed writer left.
    pub(super) fn take(&self) -> Result<()> {
        if let Some(other) = self.read()?
            && !self.is_over(&other)
        {
            self.watch(&other)?;
        }
        self.write()?;
        self.check()
    }

    /// Whether this process still holds it.
    pub(super) fn check(&self) -> Result<()> {
        match self.read()? {
            Some(word) if word.identity == self.mine => Ok(()),
            Some(other) => Err(self.busy(other.holder.name())),
            None => Err(self.busy("this one's lease was taken away".to_owned())),
        }
    }

    pub(super) fn renew(&self) -> Result<()> {
        self.check()?;
        self.write()
    }

    pub(super) fn release(&self) -> Result<()> {
        self.check()?;
        self.folder.write(&self.path, Vec::new())
    }

    /// Returns when `other` has not renewed its lease for as long as one is good, or has given it
    /// back.
    fn watch(&self, other: &Word) -> Result<()> {
        let holder = &other.holder;
        holder.say_that_it_is_watched(&self.folder.url(), self.valid_for);
        let since = Instant::now();
        while since.elapsed() < self.valid_for {
            std::thread::sleep(self.valid_for / 20);
            match self.read()? {
                None => return Ok(()),
                Some(now) if now != *other => return Err(self.busy(now.holder.name())),
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Whether its holder is certainly gone: long expired, even by a clock that is somewhat wrong, or
    /// a process of this machine that is no more.
    fn is_over(&self, other: &Word) -> bool {
        let here = !self.mine.machine.is_empty() && other.identity.machine == self.mine.machine;
        let process = format!("/proc/{}", other.holder.pid);
        other.holder.is_long_over(self.valid_for)
            || here && !std::path::Path::new(&process).exists()
    }

    fn read(&self) -> Result<Option<Word>> {
        let found = self.folder.read(&self.path)?;
        // What is given back is empty, and what is no lease binds nobody.
        Ok(found.and_then(|json| serde_json::from_slice(&json).ok()))
    }

    fn write(&self) -> Result<()> {
        let word = Word {
            holder: Holder::until(self.valid_for),
            identity: self.mine.clone(),
            renewed_nanos: unix_nanos(),
        };
        let json = serde_json::to_vec(&word).expect("strings and numbers always become JSON");
        self.folder.write(&self.path, json)
    }

    fn busy(&self, holder: String) -> Error {
        let url = self.folder.url();
        Error::Busy { url, holder }
    }
}

fn unix_nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as u64)
}

fn machine() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let namespace = std::fs::read_link("/proc/self/ns/pid");
    match (boot, namespace) {
        (Ok(boot), Ok(namespace)) => format!("{} {}", boot.trim(), namespace.display()),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Lease;
    use super::super::holder::unix_secs;
    use super::*;
    use crate::store::in_memory;

    const SHORT: Duration = Duration::from_secs(1);
    /// Good for longer than a busy machine keeps its holder from renewing it.
    const LONG: Duration = Duration::from_secs(30);

    fn lease(folder: &Folder, valid_for: Duration, renew_every: Duration) -> Result<Lease> {
        let object = LeaseObject::new(folder, "lease.json", valid_for);
        Lease::take_object(object, renew_every)
    }

    fn word(machine: &str, pid: u32, expires: u64) -> Vec<u8> {
        let word = Word {
            holder: Holder {
                host: "elsewhere".to_owned(),
                pid,
                expires,
            },
            identity: Identity {
                machine: machine.to_owned(),
                taken_nanos: 1,
            },
            renewed_nanos: 1,
        };
        serde_json::to_vec(&word).unwrap()
    }

    #[test]
    fn a_second_writer_is_refused_while_the_first_renews() {
        let folder = in_memory();
        let first = lease(&folder, LONG, Duration::from_millis(100)).unwrap();
        let refused = lease(&folder, LONG, LONG).unwrap_err().to_string();
        let process = format!("process {}", std::process::id());
        assert!(refused.contains(&process), "{refused}");
        first.check().unwrap();
        drop(first);
        lease(&folder, LONG, LONG).unwrap();
    }

    #[test]
    fn a_writer_that_is_gone_is_succeeded() {
        // On another machine, whatever its clock says: after the wait.
        let folder = in_memory();
        for expires in [unix_secs() - 3, unix_secs() + 1000] {
            let left = word("another", 7, expires);
            folder.write("lease.json", left).unwrap();
            let since = Instant::now();
            let lease = lease(&folder, SHORT, SHORT).unwrap();
            assert!(since.elapsed() >= SHORT, "it was not waited for");
            lease.check().unwrap();
        }
    }

    #[test]
    fn what_is_certainly_over_needs_no_wait() {
        let folder = in_memory();
        let object = LeaseObject::new(&folder, "lease.json", Duration::from_hours(1));
        // No process has number 0.
        let dead = word(&machine(), 0, unix_secs() + 50);
        let old = word("another", 7, unix_secs() - 36_001);
        for over in [dead, old, b"no lease".to_vec(), Vec::new()] {
            folder.write("lease.json", over).unwrap();
            object.take().unwrap();
        }
        let alive = word(&machine(), std::process::id(), unix_secs() + 50);
        let alive: Word = serde_json::from_slice(&alive).unwrap();
        assert!(!object.is_over(&alive));
    }

    #[test]
    fn a_writer_that_lost_its_lease_stops_and_leaves_the_other_alone() {
        let folder = in_memory();
        let renew_every = Duration::from_millis(200);
        let first = lease(&folder, LONG, renew_every).unwrap();
        // Just after a renewal: one that is under way would go over the other's word.
        let taken = folder.read("lease.json").unwrap();
        let since = Instant::now();
        while folder.read("lease.json").unwrap() == taken {
            assert!(since.elapsed() < Duration::from_mins(10), "not renewed");
            std::thread::sleep(Duration::from_millis(1));
        }
        let other = word("another", 7, unix_secs() + 50);
        folder.write("lease.json", other.clone()).unwrap();
        let lost = first.check().unwrap_err().to_string();
        assert!(lost.contains("process 7 on elsewhere"), "{lost}");
        // The next renewal meets it.
        std::thread::sleep(2 * renew_every);
        drop(first);
        assert_eq!(folder.read("lease.json").unwrap().unwrap(), other);
    }
}
