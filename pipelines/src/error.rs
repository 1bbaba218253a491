//! What can go wrong, and where.
//!
//! [`Error`] stops a run and says what to do; [`SampleError`] is the fault of one sample's bytes:
//! it is counted and quarantined, and another row takes the sample's place.

mod message;

pub use self::message::full_message;
pub(crate) use self::message::{GaveUp, StoreMessage, causes};

/// A fault that the caller must act on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store did not give or take what was asked.
    #[error("{url}: {}", message::StoreMessage(.cause))]
    Store {
        /// The object or folder.
        url: String,
        /// What the store said; the message holds all of its words.
        cause: object_store::Error,
    },
    /// A local file or folder could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// There is nothing to read where a data set should be.
    #[error("{url}: no shards here: {reason}")]
    NoShards {
        /// The folder or file that was named.
        url: String,
        /// What was looked for and what was found.
        reason: String,
    },
    /// A shard, a manifest or an archive is damaged.
    #[error("{shard}: damaged: {reason}")]
    Corrupt {
        /// The shard, manifest or archive.
        shard: String,
        /// What is wrong and where in the file.
        reason: String,
    },
    /// A column is missing or of a type that cannot serve.
    #[error("{shard}: column `{column}`: {reason}")]
    Schema {
        /// The shard.
        shard: String,
        /// The column as the file names it.
        column: String,
        /// What was expected, what was found, what to do.
        reason: String,
    },
    /// A source of samples that cannot serve.
    #[error("{path}: {reason}")]
    Source {
        /// The file or folder that was named.
        path: std::path::PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Another process writes this set.
    #[error("{url}: another writer is at work here ({holder}); wait for it, or stop it")]
    Busy {
        /// The set.
        url: String,
        /// Who it is, and for how long its lease is good.
        holder: String,
    },
    /// Settings that cannot work, all of them at once.
    #[error("{}", .0.join("\n"))]
    Config(Vec<String>),
    /// More samples were bad than `max_bad_fraction` allows.
    #[error(
        "{failed} of {seen} samples were bad, more than max_bad_fraction = {limit}; the last: {last}"
    )]
    TooManyBadSamples {
        /// Bad samples so far.
        failed: u64,
        /// Samples seen so far.
        seen: u64,
        /// The limit that was set.
        limit: f64,
        /// The last one's place and reason.
        last: String,
    },
    /// Every row of a set is bad, or too short for training.
    #[error("a set has not one sample to train or to work on; the last: {last}")]
    NoGoodSample {
        /// The last row's place and reason, or the set.
        last: String,
    },
    /// One batch, or the row groups that it needs, cannot fit `memory`.
    #[error(
        "{what} needs {needed_bytes} bytes, more than memory = {memory_bytes} bytes allows; raise `memory`, or lower {lower}"
    )]
    Budget {
        /// The thing that does not fit.
        what: String,
        /// Its size.
        needed_bytes: u64,
        /// The whole budget.
        memory_bytes: u64,
        /// The settings that would make it smaller.
        lower: &'static str,
    },
    /// A fault of this program: a stage panicked.
    #[error("the stage `{stage}` panicked, please report this: {message}")]
    Panic {
        /// The stage.
        stage: &'static str,
        /// What it said.
        message: String,
    },
}

/// What is wrong with one sample's bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SampleError {
    /// The bytes are not what they should be: the decoder's words.
    #[error("cannot decode: {0}")]
    Decode(String),
    /// No decoder for this kind of file.
    #[error("unsupported: {0}")]
    Unsupported(String),
    /// Larger than a limit of the config.
    #[error("{what} is {found}, over the limit of {limit}")]
    Limit {
        /// The limited quantity, for example `pixels`.
        what: &'static str,
        /// What the sample has.
        found: u64,
        /// What the config allows.
        limit: u64,
    },
    /// Shorter than the config allows.
    #[error("{what} are {found}, fewer than the {least} that a sample needs")]
    Short {
        /// The limited quantity, for example `frames`.
        what: &'static str,
        /// What the sample has.
        found: u64,
        /// What the config asks for.
        least: u64,
    },
    /// The bytes are not those that were written.
    #[error("hash mismatch: the row says {expected:016x}, its bytes have {found:016x}")]
    Hash {
        /// `bytes_xxh3` of the row.
        expected: u64,
        /// The hash of the bytes as read.
        found: u64,
    },
    /// The row's media is null or empty.
    #[error("no bytes in this row")]
    Empty,
    /// A label that is null, or not in the set's list of names.
    #[error("label {0}")]
    Label(String),
}

/// The result of everything in this crate that can stop a run.
pub type Result<T, E = Error> = std::result::Result<T, E>;
