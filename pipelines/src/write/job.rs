//! The order to write a corpus, its progress, its report, and the settings that a resumed run must
//! share with the run before it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use understudy_schemas::Vocabulary;

use crate::shard::Manifest;
use crate::store::{Folder, real_path};
use crate::write::options::EncodeOptions;
use crate::write::sample::{ColumnMap, Survey};
use crate::write::shards::journal::ResumeSettings;
use crate::write::source::SampleSource;
use crate::{Error, Result};

/// What to write, and where.
#[derive(Debug, Clone)]
pub struct WriteOptions {
    /// Folders, tars, tables, texts, Parquet or Arrow files, or folders of these.
    pub sources: Vec<PathBuf>,
    /// The folder of the set, or of the sets `train` and `val`: a path or URL.
    pub to: String,
    /// Our name of a column (see [`EncodeOptions::columns`]) → the source's; an empty name leaves it out.
    pub columns: ColumnMap,
    /// Another set, a path or URL, whose class list is used.
    pub labels: Option<String>,
    /// What becomes of each sample.
    pub encode: EncodeOptions,
    /// Size at which a shard is closed, in bytes.
    pub shard_bytes: u64,
    /// Size at which a row group is closed, in bytes of media.
    pub row_group_bytes: u64,
    /// Threads that check and encode.
    pub threads: usize,
}

/// How far a run is.
#[derive(Debug, Clone)]
pub struct Progress {
    /// The set that is being written.
    pub set: String,
    /// Samples consumed, those of an earlier run included.
    pub done: u64,
    /// Samples of the source.
    pub total: u64,
    /// Bytes of finished shards.
    pub bytes: u64,
    /// Bad samples.
    pub quarantined: u64,
}

/// What became of one set.
#[derive(Debug, Clone)]
pub struct WriteReport {
    /// The set's folder, a path or URL.
    pub set: String,
    /// Rows written.
    pub rows: u64,
    /// Bytes of all shards.
    pub bytes: u64,
    /// Shards.
    pub shards: usize,
    /// Class names.
    pub classes: Option<Vec<String>>,
    /// Bad samples, in the quarantine file.
    pub quarantined: u64,
    /// Files of the source that are no samples; those that lie beside all sets count with the first.
    pub ignored: u64,
    /// Folders of files alone among the sources: their samples have neither labels nor transcripts.
    pub bare_folders: u64,
    /// Samples that an earlier run had done.
    pub resumed_from: u64,
    /// Of token sets that this run worked on: the share of the blocks' tokens that are no padding.
    pub fill: Option<f64>,
    /// Time that this run took.
    pub took: Duration,
    /// How it ended.
    pub end: End,
}

/// How a set ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The manifest is written.
    Written,
    /// It was complete before this run.
    AlreadyThere,
    /// Stopped by request; the same command goes on.
    Interrupted,
}

/// One set and what the first pass found in it.
pub(crate) struct DatasetJob {
    pub(crate) folder: Folder,
    /// Shards are `<stem>-00000.parquet`.
    pub(crate) stem: &'static str,
    pub(crate) sources: Vec<SampleSource>,
    pub(crate) survey: Survey,
}

impl DatasetJob {
    pub(crate) fn shard_name(&self, i: usize) -> String {
        format!("{}-{i:05}.parquet", self.stem)
    }

    pub(crate) fn report(
        &self,
        manifest: &Manifest,
        quarantined: u64,
        start: Instant,
        end: End,
    ) -> WriteReport {
        WriteReport {
            set: self.folder.url(),
            rows: manifest.rows,
            bytes: manifest.shards.iter().map(|shard| shard.bytes).sum(),
            shards: manifest.shards.len(),
            classes: manifest.classes.clone(),
            quarantined,
            ignored: self.survey.ignored,
            bare_folders: self.survey.bare_folders,
            resumed_from: 0,
            fill: None,
            took: start.elapsed(),
            end,
        }
    }
}

/// The settings of a corpus that becomes shards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WriteSettings {
    pub(crate) schema: String,
    pub(crate) schema_version: u32,
    /// Fingerprint of the source's names and sizes.
    pub(crate) source_xxh3: String,
    pub(crate) samples: u64,
    pub(crate) classes: Option<Vec<String>>,
    #[serde(alias = "options")]
    pub(crate) encode: EncodeOptions,
    /// Of token sets.
    pub(crate) vocabulary: Option<Vocabulary>,
    /// Our names of columns → the source's.
    pub(crate) columns: BTreeMap<String, String>,
    /// Seed of the order in which files are written.
    pub(crate) order_seed: u64,
    pub(crate) shard_bytes: u64,
    pub(crate) row_group_bytes: u64,
}

impl ResumeSettings for WriteSettings {
    fn differences(&self, now: &Self) -> Vec<String> {
        let (a, b) = (self, now);
        let all = [
            (
                "schema",
                a.schema != b.schema || a.schema_version != b.schema_version,
            ),
            (
                "source (its files' names or sizes changed)",
                a.source_xxh3 != b.source_xxh3,
            ),
            ("list of classes", a.classes != b.classes),
            (
                "--tokenizer",
                a.vocabulary.as_ref().map(|v| &v.sha256)
                    != b.vocabulary.as_ref().map(|v| &v.sha256),
            ),
            ("--columns", a.columns != b.columns),
            ("version of this program", a.order_seed != b.order_seed),
            ("--shard-bytes", a.shard_bytes != b.shard_bytes),
            ("--row-group-bytes", a.row_group_bytes != b.row_group_bytes),
        ];
        let differing = all.into_iter().filter(|(_, differs)| *differs);
        differing
            .map(|(name, _)| name)
            .chain(a.encode.differences(&b.encode))
            .map(str::to_owned)
            .collect()
    }
}

/// Shards inside their own source would be a part of it at the next run.
pub(crate) fn refuse_nesting(to: &Folder, sources: &[PathBuf]) -> Result<()> {
    let with_slash = |url: &str| format!("{}/", url.trim_end_matches('/'));
    let is_inside = |source: &Path| match to.local() {
        Some(to) => match (real_path(to), real_path(source)) {
            (Ok(to), Ok(source)) => to.starts_with(source),
            _ => false,
        },
        None => with_slash(&to.url()).starts_with(&with_slash(&source.to_string_lossy())),
    };
    match sources.iter().find(|source| is_inside(source)) {
        None => Ok(()),
        Some(source) => Err(Error::Config(vec![format!(
            "--to {} lies inside the source {}; choose a folder outside",
            to.url(),
            source.display()
        )])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::in_memory;

    #[test]
    fn no_set_lies_in_its_source() {
        let refused = |to: &Folder, source: &str| refuse_nesting(to, &[source.into()]).is_err();
        let to = in_memory();
        for source in ["memory://some/set", "memory://some/", "memory://some"] {
            assert!(refused(&to, source), "{source}");
        }
        for source in ["memory://some/set/train", "memory://so", "/some/set"] {
            assert!(!refused(&to, source), "{source}");
        }
        let folder = tempfile::tempdir().unwrap();
        let to = Folder::from(folder.path().join("not/there").as_path());
        assert!(refused(&to, folder.path().to_str().unwrap()));
        assert!(!refused(&to, "memory://some"));
    }
}
