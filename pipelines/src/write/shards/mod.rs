//! Writes rows as the shards of one dataset, with a journal from which a killed run resumes.

pub(crate) mod bad_samples;
mod column_builders;
pub(crate) mod dataset_writer;
pub(crate) mod journal;
pub(crate) mod parquet_writer;
