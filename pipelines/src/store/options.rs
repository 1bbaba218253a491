//! Options of a store.

use std::path::PathBuf;
use std::time::Duration;

/// How patient a client is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreOptions {
    /// How long an operation is tried before the store is given up.
    pub retry_for: Duration,
    /// How long nothing may move on a request before it is given up and repeated.
    pub stall_after: Duration,
    /// Where ranges of remote objects are kept.
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

/// Where ranges are kept, and how much of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheOptions {
    /// The folder; it may be shared by processes of this machine.
    pub folder: PathBuf,
    /// Bytes that entries may take.
    pub bytes: u64,
}

impl CacheOptions {
    /// With less, a bucket would hold no more than one large range.
    pub const LEAST_BYTES: u64 = 1 << 30;
}
