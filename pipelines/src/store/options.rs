//! Options of a store.

use std::path::PathBuf;
use std::time::Duration;

/// Timeouts of a store, and its cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreOptions {
    /// For how long a failed operation is retried.
    pub retry_for: Duration,
    /// Time without progress after which a request is aborted and retried.
    pub stall_after: Duration,
    /// The local cache of ranges of remote objects; `None` for no cache.
    pub cache: Option<CacheOptions>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            retry_for: Duration::from_mins(15),
            stall_after: Duration::from_secs(8),
            cache: None,
        }
    }
}

/// Folder and size of a cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheOptions {
    /// The folder. Processes of this machine can share it.
    pub folder: PathBuf,
    /// Maximum size of all entries together, in bytes.
    pub bytes: u64,
}

impl CacheOptions {
    /// Minimum of `bytes`: with less, a bucket would hold no more than one large range.
    pub const LEAST_BYTES: u64 = 1 << 30;
}
