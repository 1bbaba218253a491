//! Object stores behind paths and URLs, with retries, timeouts and concurrency limits.
//!
//! ```text
//! URL ─ open ─> client of `object_store`, or hub ─> retry: waits, retries, hedges
//!                        └─ http: each HTTP request
//! ```
//!
//! Local folders are read without these layers. Credentials and endpoints come from the environment
//! and from the files of each ecosystem's own tools, never from a config, and are never printed.

mod aws_profile;
mod cache;
mod concurrency;
mod folder;
mod hedge;
mod http;
mod hub;
mod lease;
mod location;
mod open;
mod options;
mod retry;
mod scratch;
mod traffic;
mod wait_log;

pub(crate) use self::cache::Key;
pub use self::folder::Folder;
#[cfg(test)]
pub(crate) use self::folder::tests::in_memory;
pub use self::lease::Lease;
pub use self::location::Location;
pub(crate) use self::open::real_path;
pub use self::options::{CacheOptions, StoreOptions};
pub use self::scratch::Scratch;
pub use self::traffic::{Traffic, TrafficCounts};
