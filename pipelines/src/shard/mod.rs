//! Reading shards: sets, manifests, columns, Parquet and Arrow IPC.

pub mod manifest;

pub use manifest::{MANIFEST_NAME, Manifest, ManifestGroup, ManifestShard};
