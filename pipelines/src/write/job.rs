//! Options, progress and report of writing a corpus, and the settings that a resumed run must share
//! with the run before it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use understudy_schemas::Vocabulary;

use crate::shard::Manifest;
use crate::store::{Folder, Public, real_path};
use crate::write::options::EncodeOptions;
use crate::write::sample::{ColumnMap, Survey};
use crate::write::shards::journal::ResumeSettings;
use crate::write::source::SampleSource;
use crate::{Error, Result};

/// Options of writing a corpus.
#[derive(Clone)]
pub struct WriteOptions {
    /// Folders, tars, tables, texts, Parquet or Arrow files, or folders of these.
    pub sources: Vec<PathBuf>,
    /// The folder of the dataset, or of the datasets `train` and `val`: a path or URL.
    pub to: String,
    /// Maps our column names (see [`EncodeOptions::columns`]) to the source's; an empty name leaves the
    /// column out.
    pub columns: ColumnMap,
    /// Another dataset, a path or URL, whose class list is used.
    pub labels: Option<String>,
    /// Encoding of each sample.
    pub encode: EncodeOptions,
    /// Size at which a shard is closed, in bytes.
    pub shard_bytes: u64,
    /// Size at which a row group is closed, in bytes of media.
    pub row_group_bytes: u64,
    /// Number of threads that check and encode.
    pub threads: usize,
}

/// Written by hand: a URL may be signed.
impl fmt::Debug for WriteOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels = self.labels.as_deref().map(Public);
        f.debug_struct("WriteOptions")
            .field("sources", &self.sources)
            .field("to", &Public(&self.to))
            .field("labels", &labels)
            .finish_non_exhaustive()
    }
}

/// Progress of a run.
#[derive(Debug, Clone)]
pub struct Progress {
    /// The dataset that is being written, a path or URL.
    pub dataset: String,
    /// Samples consumed, those of an earlier run included.
    pub done: u64,
    /// Samples of the source.
    pub total: u64,
    /// Bytes of finished shards.
    pub bytes: u64,
    /// Bad samples so far.
    pub quarantined: u64,
}

/// Report on one dataset.
#[derive(Debug, Clone)]
pub struct WriteReport {
    /// The dataset's folder, a path or URL.
    pub dataset: String,
    /// Number of rows in the dataset.
    pub rows: u64,
    /// Bytes of all shards.
    pub bytes: u64,
    /// Number of shards.
    pub shards: usize,
    /// Class names in the order of their numbers; `None` if labels have no names.
    pub classes: Option<Vec<String>>,
    /// Bad samples listed in the quarantine file.
    pub quarantined: u64,
    /// Files of the source that are not samples; those next to all datasets count for the first.
    pub ignored: u64,
    /// Sources that are folders of only files: their samples have neither labels nor transcripts.
    pub bare_folders: u64,
    /// Samples that an earlier run has written.
    pub resumed_from: u64,
    /// Share of tokens in the blocks that are not padding; only for token datasets written by this run.
    pub fill: Option<f64>,
    /// Duration of this run.
    pub took: Duration,
    /// State at the end of the run.
    pub end: End,
}

/// State of a dataset at the end of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The manifest is written.
    Written,
    /// The dataset was complete before this run.
    AlreadyThere,
    /// Stopped by request; the same command resumes.
    Interrupted,
}

/// One dataset to write, and the summary of its sources.
pub(crate) struct DatasetJob {
    pub(crate) folder: Folder,
    /// Shards are `<stem>-00000.parquet`.
    pub(crate) stem: &'static str,
    pub(crate) sources: Vec<SampleSource>,
    pub(crate) survey: Survey,
}

impl DatasetJob {
    /// Returns the file name of shard `i`.
    pub(crate) fn shard_name(&self, i: usize) -> String {
        format!("{}-{i:05}.parquet", self.stem)
    }

    /// Returns the report on the dataset with this manifest.
    pub(crate) fn report(
        &self,
        manifest: &Manifest,
        quarantined: u64,
        start: Instant,
        end: End,
    ) -> WriteReport {
        WriteReport {
            dataset: self.folder.url(),
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

/// Settings that a resumed run must share with the run before it, stored as `job.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WriteSettings {
    pub(crate) schema: String,
    pub(crate) schema_version: u32,
    /// Fingerprint of the source's names and sizes.
    pub(crate) source_xxh3: String,
    pub(crate) samples: u64,
    pub(crate) classes: Option<Vec<String>>,
    #[serde(alias = "recipe")]
    pub(crate) encode: EncodeOptions,
    /// Vocabulary of token datasets.
    pub(crate) vocabulary: Option<Vocabulary>,
    /// Map of our column names to the source's.
    pub(crate) columns: BTreeMap<String, String>,
    /// Seed of the order in which files are written.
    pub(crate) order_seed: u64,
    pub(crate) shard_bytes: u64,
    pub(crate) row_group_bytes: u64,
}

impl ResumeSettings for WriteSettings {
    fn changed_settings(&self, now: &Self) -> Vec<String> {
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
            ("class list", a.classes != b.classes),
            (
                "--tokenizer",
                a.vocabulary.as_ref().map(|v| &v.sha256)
                    != b.vocabulary.as_ref().map(|v| &v.sha256),
            ),
            ("--columns", a.columns != b.columns),
            ("program version", a.order_seed != b.order_seed),
            ("--shard-bytes", a.shard_bytes != b.shard_bytes),
            ("--row-group-bytes", a.row_group_bytes != b.row_group_bytes),
        ];
        let differing = all.into_iter().filter(|(_, differs)| *differs);
        differing
            .map(|(name, _)| name)
            .chain(a.encode.changed_options(&b.encode))
            .map(str::to_owned)
            .collect()
    }
}

/// Refuses a dataset inside its own source: the next run would read it.
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
            "--to {} is inside the source {}\nhint: choose a folder outside",
            to.url(),
            source.display()
        )])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::in_memory;
    use crate::write::options::{AudioOptions, Check};

    #[test]
    fn dataset_inside_its_source_is_refused() {
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

    #[test]
    fn job_of_earlier_release_is_read() {
        let job = r#"{"schema": "image", "schema_version": 1, "source_xxh3": "", "samples": 3,
            "classes": null, "recipe": {"audio": {"check": "header"}}, "vocabulary": null,
            "columns": {}, "order_seed": 7, "shard_bytes": 8, "row_group_bytes": 9}"#;
        let settings: WriteSettings = serde_json::from_str(job).unwrap();
        let expected = AudioOptions {
            check: Check::Header,
        };
        assert_eq!(settings.encode, EncodeOptions::Audio(expected));
    }
}
