//! The ground of `write`: one sample on its way from a source to a shard, and the summary of a
//! source before any sample is read.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::ops::ControlFlow;
use std::path::PathBuf;

use xxhash_rust::xxh3::Xxh3;

use crate::SampleError;
use crate::write::classes::{RawLabel, SeenLabels};

/// Our names of columns → the source's.
pub(crate) type ColumnMap = BTreeMap<String, String>;

/// One sample as its source has it.
#[derive(Debug)]
pub(crate) struct RawSample {
    /// Where it is, for the quarantine file: `train/rose/1.jpg`, `x.tar:0001.jpg`, `x.parquet#7`,
    /// `x.txt:31` (its first line, counted from 1).
    pub(crate) place: String,
    /// The name that goes into the row.
    pub(crate) path: Option<String>,
    /// The encoded media.
    pub(crate) body: Body,
    /// Its label, in the source's own terms.
    pub(crate) label: RawLabel,
    /// What else the source knows of it.
    pub(crate) facts: Facts,
}

/// The encoded media, or where they are.
#[derive(Debug)]
pub(crate) enum Body {
    /// A file, read by the thread that checks the sample; its size in bytes.
    File(PathBuf, u64),
    /// A part of a file: offset and length in bytes.
    Slice(PathBuf, u64, u64),
    /// Bytes that had to be read on the way.
    Bytes(Vec<u8>),
    /// There are none, and why.
    Bad(SampleError),
}

/// What a source knows of a sample beside its media and its label.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Facts {
    None,
    /// Of a recording.
    Speech {
        transcript: Option<String>,
        speaker: Option<String>,
    },
    /// Of a text.
    Text {
        /// The second text of a pair.
        second: Option<Vec<u8>>,
        score: Option<f32>,
        /// Whether the next sample is the same document's next part.
        continues: bool,
    },
}

/// Takes samples one after another; breaks when no more are wanted.
pub(crate) type Sink<'a> = &'a mut dyn FnMut(RawSample) -> ControlFlow<()>;

/// What a first pass over a source's names (of texts: its documents) tells.
#[derive(Default)]
pub(crate) struct Survey {
    /// Samples, good and bad.
    pub(crate) samples: u64,
    /// Files of the source that are no samples and are left out.
    pub(crate) ignored: u64,
    /// Folders of files alone, which have neither labels nor transcripts.
    pub(crate) bare_folders: u64,
    /// LabelMap met.
    pub(crate) labels: SeenLabels,
    /// Names and sizes so far: a changed source gives another number.
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
