//! Locks on files.

use std::fs::{File, TryLockError};
use std::io::{Error, ErrorKind, Result};

/// `ENOLCK`: NFS without its lock daemon.
const NO_LOCKS: i32 = if cfg!(target_os = "linux") { 37 } else { 77 };

/// The outcome of [`try_lock`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lock {
    /// This process holds the lock, until it closes the file.
    Taken,
    /// Another process holds it.
    Busy,
    /// The file system has no locks.
    Unsupported,
}

/// Locks a file without waiting.
pub(super) fn try_lock(file: &File) -> Result<Lock> {
    match file.try_lock() {
        Ok(()) => Ok(Lock::Taken),
        Err(TryLockError::WouldBlock) => Ok(Lock::Busy),
        Err(TryLockError::Error(error)) if is_unsupported(&error) => Ok(Lock::Unsupported),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn is_unsupported(error: &Error) -> bool {
    error.kind() == ErrorKind::Unsupported || error.raw_os_error() == Some(NO_LOCKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_lock_daemon_counts_as_unsupported() {
        assert!(is_unsupported(&Error::from_raw_os_error(NO_LOCKS)));
        assert!(is_unsupported(&ErrorKind::Unsupported.into()));
        assert!(!is_unsupported(&ErrorKind::PermissionDenied.into()));
    }

    #[test]
    fn try_lock_tells_a_held_lock() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lock");
        let first = File::create(&path).expect("a file");
        assert_eq!(try_lock(&first).expect("a lock"), Lock::Taken);
        let second = File::open(&path).expect("a file");
        assert_eq!(try_lock(&second).expect("no error"), Lock::Busy);
        drop(first);
        assert_eq!(try_lock(&second).expect("a lock"), Lock::Taken);
    }
}
