//! Rows become the shards of one dataset, and a journal beside them lets a killed run resume.

pub(crate) mod bad_samples;
mod column_builders;
pub(crate) mod dataset_writer;
pub(crate) mod journal;
pub(crate) mod parquet_writer;
