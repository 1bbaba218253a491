//! The process that holds a lease.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Host and process id of a lease's holder, and the expiry time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Holder {
    pub(super) host: String,
    pub(super) pid: u32,
    /// Expiry time, in seconds since 1970.
    pub(super) expires: u64,
}

impl Holder {
    /// Returns this process as holder, for `valid_for` from now.
    pub(super) fn until(valid_for: Duration) -> Self {
        Self {
            host: host(),
            pid: std::process::id(),
            expires: unix_secs() + valid_for.as_secs(),
        }
    }

    pub(super) fn name(&self) -> String {
        format!("process {} on {}", self.pid, self.host)
    }

    /// Returns whether it expired 10 lease times ago, so that a wrong clock makes no difference.
    pub(super) fn is_long_over(&self, valid_for: Duration) -> bool {
        self.expires < unix_secs().saturating_sub(10 * valid_for.as_secs().max(1))
    }

    pub(super) fn is_this_process(&self) -> bool {
        self.pid == std::process::id() && self.host == host()
    }

    pub(super) fn warn_about_wait(&self, url: &str, valid_for: Duration) {
        tracing::warn!(
            "{url}: {} may be writing here; waiting up to {} s to check",
            self.name(),
            valid_for.as_secs()
        );
    }
}

pub(super) fn unix_secs() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

pub(super) fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "this machine".to_owned(), |name| name.trim().to_owned())
}
