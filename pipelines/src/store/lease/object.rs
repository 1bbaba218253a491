//! The lease as an object in a store, which has no locks.
//!
//! A second writer watches whether the lease is renewed. If it is, the second writer fails; if it is
//! not for as long as a lease is valid, the second writer takes over. So no two clocks are compared.
//! A lease of a process of this machine that has ended is taken over at once. A writer that finds
//! another name in its lease stops; so of two writers that start at the same moment, the first stops
//! before it commits.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::holder::Holder;
use crate::store::folder::Folder;
use crate::{Error, Result};

/// The object of a lease.
#[derive(Debug, Clone)]
pub(super) struct LeaseObject {
    folder: Folder,
    path: String,
    valid_for: Duration,
    mine: Identity,
}

/// Content of the object. A released one is empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct LeaseRecord {
    #[serde(flatten)]
    holder: Holder,
    #[serde(flatten)]
    identity: Identity,
    /// Time of the last renewal, which differs after each one.
    renewed_nanos: u64,
}

/// Identifies one take of a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    /// Boot id and process namespace, in which the holder's process id is unique; empty if unknown.
    machine: String,
    /// Time of the take, in nanoseconds since 1970.
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

    /// Takes the lease. Waits if another writer may hold it.
    pub(super) fn take(&self) -> Result<()> {
        if let Some(other) = self.read()?
            && !self.is_over(&other)
        {
            self.watch(&other)?;
        }
        self.write()?;
        self.check()
    }

    /// Checks that this process still holds the lease.
    pub(super) fn check(&self) -> Result<()> {
        match self.read()? {
            Some(record) if record.identity == self.mine => Ok(()),
            Some(other) => Err(self.busy(other.holder.name())),
            None => Err(self.busy("the lease of this process was removed".to_owned())),
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

    /// Waits until `other` has released its lease, or has not renewed it for as long as a lease is
    /// valid. An error if it renews it.
    fn watch(&self, other: &LeaseRecord) -> Result<()> {
        let holder = &other.holder;
        holder.warn_about_wait(&self.folder.url(), self.valid_for);
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

    /// Returns whether the holder has certainly ended: the lease expired long ago, or the holder is a
    /// process of this machine that no longer exists.
    fn is_over(&self, other: &LeaseRecord) -> bool {
        let here = !self.mine.machine.is_empty() && other.identity.machine == self.mine.machine;
        let process = format!("/proc/{}", other.holder.pid);
        other.holder.is_long_over(self.valid_for)
            || here && !std::path::Path::new(&process).exists()
    }

    /// Reads the record; `None` if the lease was released, or the object is not a lease.
    fn read(&self) -> Result<Option<LeaseRecord>> {
        let found = self.folder.read(&self.path)?;
        Ok(found.and_then(|json| serde_json::from_slice(&json).ok()))
    }

    fn write(&self) -> Result<()> {
        let record = LeaseRecord {
            holder: Holder::until(self.valid_for),
            identity: self.mine.clone(),
            renewed_nanos: unix_nanos(),
        };
        let json = serde_json::to_vec(&record).expect("strings and numbers always become JSON");
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
    /// Valid for longer than a busy machine delays a renewal.
    const LONG: Duration = Duration::from_secs(30);

    fn lease(folder: &Folder, valid_for: Duration, renew_every: Duration) -> Result<Lease> {
        let object = LeaseObject::new(folder, "lease.json", valid_for);
        Lease::take_object(object, renew_every)
    }

    fn record(machine: &str, pid: u32, expires: u64) -> Vec<u8> {
        let record = LeaseRecord {
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
        serde_json::to_vec(&record).unwrap()
    }

    #[test]
    fn take_rejects_while_the_first_writer_renews() {
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
    fn take_waits_for_a_writer_that_does_not_renew() {
        // On another machine, whatever its clock shows.
        let folder = in_memory();
        for expires in [unix_secs() - 3, unix_secs() + 1000] {
            let left = record("another", 7, expires);
            folder.write("lease.json", left).unwrap();
            let since = Instant::now();
            let lease = lease(&folder, SHORT, SHORT).unwrap();
            assert!(since.elapsed() >= SHORT, "take did not wait");
            lease.check().unwrap();
        }
    }

    #[test]
    fn take_does_not_wait_for_a_lease_that_is_over() {
        let folder = in_memory();
        let object = LeaseObject::new(&folder, "lease.json", Duration::from_hours(1));
        // No process has number 0.
        let dead = record(&machine(), 0, unix_secs() + 50);
        let old = record("another", 7, unix_secs() - 36_001);
        for over in [dead, old, b"no lease".to_vec(), Vec::new()] {
            folder.write("lease.json", over).unwrap();
            object.take().unwrap();
        }
        let alive = record(&machine(), std::process::id(), unix_secs() + 50);
        let alive: LeaseRecord = serde_json::from_slice(&alive).unwrap();
        assert!(!object.is_over(&alive));
    }

    #[test]
    fn writer_that_lost_its_lease_leaves_the_other_one() {
        let folder = in_memory();
        let renew_every = Duration::from_millis(200);
        let first = lease(&folder, LONG, renew_every).unwrap();
        // Just after a renewal: one in progress would overwrite the other record.
        let taken = folder.read("lease.json").unwrap();
        let since = Instant::now();
        while folder.read("lease.json").unwrap() == taken {
            assert!(since.elapsed() < Duration::from_mins(10), "not renewed");
            std::thread::sleep(Duration::from_millis(1));
        }
        let other = record("another", 7, unix_secs() + 50);
        folder.write("lease.json", other.clone()).unwrap();
        let lost = first.check().unwrap_err().to_string();
        assert!(lost.contains("process 7 on elsewhere"), "{lost}");
        // The next renewal meets it.
        std::thread::sleep(2 * renew_every);
        drop(first);
        assert_eq!(folder.read("lease.json").unwrap().unwrap(), other);
    }
}
