//! Reading shards: datasets, manifests, columns, Parquet and Arrow IPC.

mod arrow;
mod as_bytes;
mod columns;
mod contents;
mod dataset;
mod fetch;
mod files;
mod footer;
mod kind;
mod lengths;
mod listing;
pub mod manifest;
mod mixture;
mod parquet;
mod rows;
#[cfg(test)]
mod tests;

pub(crate) use columns::is_label;
pub use dataset::Dataset;
pub use fetch::ShardFormat;
pub use files::{Group, Shard};
pub use kind::{Kind, unpadded_tokens};
pub use lengths::Length;
pub(crate) use manifest::UNFINISHED_MARKER;
pub use manifest::{MANIFEST_NAME, Manifest, ManifestGroup, ManifestShard};
pub use mixture::Mixture;
pub use rows::Rows;
pub(crate) use rows::{NO_LABEL, hash_of_label};
pub use understudy_schemas::{TOKENIZER_KEY, Vocabulary};
