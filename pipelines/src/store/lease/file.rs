//! The lease as a file, locked on this machine, on a disk that other machines may share.

use std::fs::{File, TryLockError};
use std::io::{Seek, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::holder::{Holder, host, unix_secs};
use crate::{Error, Result};

/// The file of a lease.
#[derive(Debug, Clone)]
pub(super) struct LeaseFile {
    pub(super) path: PathBuf,
    /// The folder that the lease protects, for messages.
    pub(super) url: String,
    pub(super) valid_for: Duration,
}

impl LeaseFile {
    /// Locks the file. Waits if a writer on another machine may hold the lease.
    pub(super) fn take(&self) -> Result<File> {
        let io = |source| self.io(source);
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder).map_err(io)?;
        }
        let mut options = File::options();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&self.path)
            .map_err(io)?;
        let locked = match file.try_lock() {
            Ok(()) => false,
            Err(TryLockError::WouldBlock) => true,
            // A file system without locks: the content of the file decides.
            Err(TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => {
                false
            }
            Err(TryLockError::Error(error)) => return Err(io(error)),
        };
        let holder = self.read()?;
        if locked {
            return Err(self.busy(holder.as_ref()));
        }
        if let Some(holder) = holder
            && holder.host != host()
            && !holder.is_long_over(self.valid_for)
        {
            self.watch(&holder)?;
        }
        self.write(&mut file)?;
        Ok(file)
    }

    /// Waits until `other` has released its lease, or has not renewed it for as long as a lease is
    /// valid. An error if it renews it.
    fn watch(&self, other: &Holder) -> Result<()> {
        other.warn_about_wait(&self.url, self.valid_for);
        let since = Instant::now();
        while since.elapsed() < self.valid_for {
            std::thread::sleep(self.valid_for / 20);
            let text = self.read_text()?;
            if text.is_empty() {
                return Ok(());
            }
            // Text that cannot be parsed is half written, and complete at the next read.
            match serde_json::from_slice::<Holder>(&text) {
                Ok(now) if now != *other => return Err(self.busy(Some(&now))),
                _ => {}
            }
        }
        Ok(())
    }

    /// Checks that no other process has written its name to the file.
    pub(super) fn check(&self) -> Result<()> {
        // A file that was removed names no other process.
        if !self.path.exists() {
            return Ok(());
        }
        match self.read()? {
            Some(holder) if !holder.is_this_process() => Err(self.busy(Some(&holder))),
            _ => Ok(()),
        }
    }

    /// Reads the holder; `None` if the lease was released, or the file is not a lease.
    fn read(&self) -> Result<Option<Holder>> {
        Ok(serde_json::from_slice(&self.read_text()?).ok())
    }

    /// Opens the file again, so that a shared disk shows what another machine wrote.
    fn read_text(&self) -> Result<Vec<u8>> {
        std::fs::read(&self.path).map_err(|source| self.io(source))
    }

    pub(super) fn write(&self, file: &mut File) -> Result<()> {
        write_holder(file, self.valid_for).map_err(|source| self.io(source))
    }

    fn busy(&self, holder: Option<&Holder>) -> Error {
        let holder = holder.map_or_else(
            || "another process on this machine".to_owned(),
            |holder| {
                let left = holder.expires.saturating_sub(unix_secs());
                format!("{}, lease valid for {left} s", holder.name())
            },
        );
        Error::Busy {
            url: self.url.clone(),
            holder,
        }
    }

    pub(super) fn io(&self, source: std::io::Error) -> Error {
        Error::Io {
            path: self.path.clone(),
            source,
        }
    }
}

fn write_holder(file: &mut File, valid_for: Duration) -> std::io::Result<()> {
    let mut text = serde_json::to_vec(&Holder::until(valid_for))?;
    text.push(b'\n');
    file.rewind()?;
    file.write_all(&text)?;
    file.set_len(text.len() as u64)
}
