//! Types that all modules of `write` share: one sample on its way from a source to a shard, and the
//! summary of a source before any sample is read.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::ops::ControlFlow;
use std::path::PathBuf;

use xxhash_rust::xxh3::Xxh3;

use crate::SampleError;
use crate::write::classes::{RawLabel, SeenLabels};

/// Maps our column names to the source's; an empty name leaves the column out.
pub(crate) type ColumnMap = BTreeMap<String, String>;

/// One sample as read from its source, before any check.
#[derive(Debug)]
pub(crate) struct RawSample {
    /// Location for the quarantine file: `train/rose/1.jpg`, `x.tar:0001.jpg`, `x.parquet#7`,
    /// `x.txt:31` (its first line, counted from 1).
    pub(crate) place: String,
    /// Name to store in the row.
    pub(crate) path: Option<String>,
    /// The encoded media.
    pub(crate) body: Body,
    /// The label as the source has it.
    pub(crate) label: RawLabel,
    /// Further columns of the source.
    pub(crate) facts: Facts,
}

/// The encoded media, or their location.
#[derive(Debug)]
pub(crate) enum Body {
    /// A file, read by the thread that checks the sample; its size in bytes.
    File(PathBuf, u64),
    /// A range of a file: offset and length in bytes.
    Slice(PathBuf, u64, u64),
    /// Bytes that are in memory already.
    Bytes(Vec<u8>),
    /// No media, and the reason.
    Bad(SampleError),
}

/// Columns of a sample other than its media and its label.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Facts {
    None,
    /// Columns of an audio sample.
    Speech {
        transcript: Option<String>,
        speaker: Option<String>,
    },
    /// Columns of a text.
    Text {
        /// The second text of a pair.
        second: Option<Vec<u8>>,
        score: Option<f32>,
        /// True if the next sample continues the same document.
        continues: bool,
    },
}

/// Receives samples in order; returns `Break` to stop the source.
pub(crate) type Sink<'a> = &'a mut dyn FnMut(RawSample) -> ControlFlow<()>;

/// Summary of a source after a first pass over its file names, or over the documents of texts.
#[derive(Default)]
pub(crate) struct Survey {
    /// Samples, good and bad.
    pub(crate) samples: u64,
    /// Files of the source that are not samples and are ignored.
    pub(crate) ignored: u64,
    /// Folders that hold only files: their samples have neither labels nor transcripts.
    pub(crate) bare_folders: u64,
    /// Labels found, which determine the class list.
    pub(crate) labels: SeenLabels,
    /// Hash of file names and sizes: a changed source has another hash.
    pub(crate) hash: Xxh3,
}

impl Survey {
    /// Adds a file's name and size to the fingerprint.
    pub(crate) fn hash_file(&mut self, name: impl AsRef<OsStr>, bytes: u64) {
        let name = name.as_ref().as_encoded_bytes();
        self.hash.update(&(name.len() as u64).to_le_bytes());
        self.hash.update(name);
        self.hash.update(&bytes.to_le_bytes());
    }
}

/// A sample that cannot be stored.
#[derive(Debug)]
pub(crate) struct BadSample {
    pub(crate) place: String,
    pub(crate) reason: SampleError,
}
