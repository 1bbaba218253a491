//! Errors of this crate.
//!
//! [`Error`] stops a run. Its message says what happened and where, then on a line of its own what to
//! do (`hint: …`). [`SampleError`] is a fault of one sample's bytes: the sample is counted and
//! quarantined, and another row replaces it.

mod config;
mod message;

pub use self::config::ConfigError;
pub use self::message::full_message;
#[cfg(feature = "http")]
pub(crate) use self::message::{GaveUp, StoreMessage, causes};

/// An error that stops a run.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A request to the store failed.
    #[error("cannot access {url}: {}", message::StoreMessage(.cause))]
    Store {
        /// URL of the object or folder.
        url: String,
        /// Error of the client; the message contains its text.
        cause: object_store::Error,
    },
    /// A local file or folder could not be read or written.
    #[error("cannot access {path}: {source}")]
    Io {
        /// Path of the file or folder.
        path: std::path::PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// No shards where a dataset should be.
    #[error("no shards found: {url}: {reason}")]
    NoShards {
        /// Path or URL of the dataset's folder or file.
        url: String,
        /// What was expected, and what was found.
        reason: String,
    },
    /// A shard, a manifest or an archive is damaged.
    #[error("damaged file: {shard}: {reason}")]
    Corrupt {
        /// Path or URL of the file.
        shard: String,
        /// Reason, and its place in the file.
        reason: String,
    },
    /// A column is missing or has an unsupported type.
    #[error("invalid schema: {shard}: column `{column}`: {reason}")]
    Schema {
        /// Path or URL of the shard.
        shard: String,
        /// Name of the column in the file.
        column: String,
        /// What was expected, what was found, and a hint.
        reason: String,
    },
    /// An unusable source of samples.
    #[error("invalid source: {path}: {reason}")]
    Source {
        /// Path of the source.
        path: std::path::PathBuf,
        /// Description of the problem.
        reason: String,
    },
    /// Another process writes this dataset or run.
    #[error("another process is writing: {url} ({holder})\nhint: wait for it, or stop it")]
    Busy {
        /// Folder of the dataset or run.
        url: String,
        /// Process and host of the writer, and how long its lease is valid.
        holder: String,
    },
    /// Invalid settings, one message each.
    #[error("{}", .0.join("\n"))]
    Config(Vec<String>),
    /// A config file, or a change to it from the command line, that cannot be used.
    #[error(transparent)]
    ConfigFile(#[from] ConfigError),
    /// More bad samples than `max_bad_fraction` allows.
    #[error(
        "too many bad samples: {failed} of {seen}, max_bad_fraction = {limit}; last error: {last}\n\
         hint: fix the dataset, or raise `data.max_bad_fraction`"
    )]
    TooManyBadSamples {
        /// Bad samples so far.
        failed: u64,
        /// Samples seen so far.
        seen: u64,
        /// The value of `max_bad_fraction`.
        limit: f64,
        /// Location and reason of the last bad sample.
        last: String,
    },
    /// Every row of a dataset is bad, or too short for training.
    #[error("no usable sample in the dataset; last error: {last}")]
    NoGoodSample {
        /// Location and reason of the last bad row, or the dataset.
        last: String,
    },
    /// A batch, a sample or the required row groups do not fit into `memory`.
    #[error(
        "not enough memory: {what} needs {needed_bytes} bytes, memory = {memory_bytes} bytes\n\
         hint: raise `memory`, or lower {lower}"
    )]
    Budget {
        /// Description of the batch, the row groups or the sample that does not fit.
        what: String,
        /// Memory that it needs, in bytes.
        needed_bytes: u64,
        /// The budget, in bytes.
        memory_bytes: u64,
        /// Settings that reduce that memory.
        lower: &'static str,
    },
    /// A bug: a stage panicked.
    #[error("stage `{stage}` panicked: {message}\nhint: please report this bug")]
    Panic {
        /// Name of the stage.
        stage: &'static str,
        /// Message of the panic.
        message: String,
    },
}

/// Shows the message: the error of a client has the URL of its request, which may be signed.
impl std::fmt::Debug for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl Error {
    /// Returns the exit code of a command that ends with this error: 2 for bad usage or config, else
    /// 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::ConfigFile(_) => 2,
            _ => 1,
        }
    }
}

/// A fault of one sample's bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SampleError {
    /// The decoder failed, with this message.
    #[error("cannot decode: {0}")]
    Decode(String),
    /// No decoder supports this file format.
    #[error("unsupported: {0}")]
    Unsupported(String),
    /// Larger than a limit in the config.
    #[error("{what} is {found}, over the limit of {limit}")]
    Limit {
        /// The limited quantity, for example `pixels`.
        what: &'static str,
        /// Value of the sample.
        found: u64,
        /// Maximum in the config.
        limit: u64,
    },
    /// Shorter than the minimum in the config.
    #[error("too short: {found} {what}, minimum {least}")]
    Short {
        /// The limited quantity, for example `frames`.
        what: &'static str,
        /// Value of the sample.
        found: u64,
        /// Minimum in the config.
        least: u64,
    },
    /// The bytes differ from those that were written.
    #[error("hash mismatch: expected {expected:016x}, found {found:016x}")]
    Hash {
        /// Hash in the column `bytes_xxh3` of the row.
        expected: u64,
        /// The hash of the bytes as read.
        found: u64,
    },
    /// The row's image, audio, text or tokens are null or empty.
    #[error("no bytes in this row")]
    Empty,
    /// A label that is null, or not in the dataset's list of classes.
    #[error("label {0}")]
    Label(String),
}

/// The result of functions whose error stops a run.
pub type Result<T, E = Error> = std::result::Result<T, E>;
