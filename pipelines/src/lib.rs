//! Bytes in object storage become masked batches in host memory.

pub mod batch;
pub mod bench;
pub mod budget;
pub mod config;
pub mod decode;
pub mod error;
pub mod inspect;
pub mod mask;
pub mod pipeline;
pub mod plan;
pub mod quarantine;
pub mod rng;
pub mod shard;
pub mod stats;
pub mod store;
pub mod transform;
pub mod verify;
pub mod write;

pub use config::DataConfig;
pub use error::{Error, Result, SampleError};
