//! Object stores behind paths and URLs, with retries, timeouts and concurrency limits.
//!
//! ```text
//! URL ─ open ─> client of `object_store`, or hub ─> retry: waits, retries, hedges
//!                        └─ http: each HTTP request
//! ```
//!
//! Local folders are read without these layers. Credentials and endpoints come from the environment
//! and from the files of each ecosystem's own tools, never from a config, and are never printed.

mod cache;
mod folder;
mod lease;
mod local_path;
mod location;
mod options;
mod redact;
mod scheme;
mod scratch;
mod traffic;

// Remote stores. The feature `http`, which the others imply, has what all of them share.
#[cfg(feature = "s3")]
mod aws_profile;
#[cfg(feature = "azure")]
mod azure;
#[cfg(feature = "http")]
mod concurrency;
#[cfg(feature = "gcs")]
mod gcs;
#[cfg(feature = "http")]
mod hedge;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "hub")]
mod hub;
#[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
mod instance_identity;
#[cfg(feature = "http")]
mod open;
#[cfg(feature = "http")]
mod retry;
#[cfg(feature = "s3")]
mod s3;
#[cfg(feature = "http")]
mod wait_log;

pub(crate) use self::cache::Key;
pub use self::folder::Folder;
#[cfg(test)]
pub(crate) use self::folder::tests::in_memory;
pub use self::lease::Lease;
pub(crate) use self::local_path::real_path;
pub use self::location::Location;
pub use self::options::{CacheOptions, StoreOptions};
pub(crate) use self::redact::Public;
pub use self::scratch::Scratch;
pub use self::traffic::{Traffic, TrafficCounts};
