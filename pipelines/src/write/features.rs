//! Writes a dataset of features: the vectors of an encoder, with the keys of the rows they come from.
//!
//! Rows are in the order of the source, and a shard ends at the end of a batch. So the next run needs
//! only the number of the source's row after a shard's last one, see `write::shards::journal`. The pass
//! over the source lists bad samples in the quarantine file before their neighbours are written: a
//! resumed run drops the lines of rows that it reads again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, FixedSizeListArray, Float32Array, Int64Builder, ListArray, RecordBatch,
    StringBuilder, UInt64Builder,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use serde::{Deserialize, Serialize};
use understudy_schemas::FEATURES;
use xxhash_rust::xxh3::Xxh3;

use crate::batch::{Key, SampleId};
use crate::quarantine::{BadRowLine, QUARANTINE_NAME};
use crate::shard::{Dataset, Manifest};
use crate::store::{Folder, Public, StoreOptions};
use crate::write::job::{End, refuse_nesting};
use crate::write::shards::bad_samples::{BadSamples, read_if_exists};
use crate::write::shards::journal::{EarlierRun, Journal, JournalEntry, ResumeSettings};
use crate::write::shards::parquet_writer::ShardWriter;
use crate::{Error, Result};

/// Size at which a row group is closed, in bytes of features.
const GROUP_BYTES: u64 = 8 << 20;

/// Options of a dataset of features.
#[derive(Clone)]
pub struct FeatureOptions {
    /// The folder of the dataset, a path or URL.
    pub to: String,
    /// The source dataset as the user named it.
    pub source: String,
    /// Dimension of a vector, D.
    pub dim: usize,
    /// True for one vector per position of a sample, false for one per sample.
    pub per_position: bool,
    /// Settings that determine the features, by name: a run with other settings cannot resume. The
    /// source's fingerprint is added.
    pub settings: BTreeMap<String, String>,
    /// Further metadata for readers, by name. It may change between runs.
    pub about: BTreeMap<String, String>,
    /// Size at which a shard is closed, in bytes.
    pub shard_bytes: u64,
}

/// Written by hand: a URL may be signed.
impl fmt::Debug for FeatureOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FeatureOptions")
            .field("to", &Public(&self.to))
            .field("source", &Public(&self.source))
            .finish_non_exhaustive()
    }
}

/// Features of samples, in the order of the source.
#[derive(Debug, Clone, Copy)]
pub struct FeatureRows<'a> {
    /// The samples, `[B]`.
    pub samples: &'a [SampleId],
    /// Keys of their rows, `[B]`.
    pub keys: &'a [Key],
    /// Number of vectors of each sample, one per position, `[B]`; `None` for one each.
    pub n_vectors: Option<&'a [usize]>,
    /// The vectors of all samples, `[sum of n_vectors, D]`, row-major.
    pub values: &'a [f32],
}

/// Report on a dataset of features.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureReport {
    /// The dataset's folder, a path or URL.
    pub dataset: String,
    /// Rows written.
    pub rows: u64,
    /// Bytes of all shards.
    pub bytes: u64,
    /// Number of shards.
    pub shards: usize,
    /// Bad samples listed in the quarantine file.
    pub quarantined: u64,
    /// State at the end of the run.
    pub end: End,
}

/// A dataset of features, complete or to be written.
pub enum FeatureDataset {
    /// The dataset is complete.
    Finished(FeatureReport),
    /// To be written, from its next row.
    Unfinished(Box<FeatureWriter>),
}

/// Writes a dataset of features.
pub struct FeatureWriter {
    journal: Journal,
    schema: SchemaRef,
    classes: Option<Vec<String>>,
    dim: usize,
    shard_bytes: u64,
    finished: Vec<JournalEntry>,
    open: Option<ShardWriter>,
    group: FeatureGroup,
    next_row: u64,
    bad_rows: Vec<u64>,
}

impl FeatureDataset {
    /// Opens or creates the dataset of the features of `source`.
    ///
    /// # Errors
    /// [`Error::Config`] if the folder is inside the source, contains other shards, or was started with
    /// other settings, which are named; [`Error::Busy`] if another process is writing it.
    pub fn open(options: &FeatureOptions, source: &Dataset) -> Result<Self> {
        let url = options.source.trim_start_matches("file://");
        let to = Folder::open(&options.to, &StoreOptions::default())?;
        refuse_nesting(&to, &[PathBuf::from(url)])?;
        let journal = Journal::open(&to)?;
        let fingerprint = format!("{:016x}", source.fingerprint());
        let mut job = FeatureJob {
            schema: FEATURES.name.clone(),
            settings: options.settings.clone(),
        };
        job.settings
            .insert("source_fingerprint".into(), fingerprint);
        let finished = match journal.begin(&job, shard_name)? {
            EarlierRun::Finished(manifest) => {
                let report = report(&journal, &manifest, End::AlreadyThere)?;
                return Ok(Self::Finished(report));
            }
            EarlierRun::Unfinished(finished) => finished,
        };
        remove_from(&to, finished.len())?;
        let next_row = finished.last().map_or(0, |entry| entry.next_sample);
        let bad_rows = retain_bad_rows(&journal, source, next_row)?;
        let about = options.about(&job);
        let schema = FEATURES.arrow_features(
            options.dim,
            options.per_position,
            source.classes.as_deref(),
            about,
        );
        Ok(Self::Unfinished(Box::new(FeatureWriter {
            journal,
            schema: Arc::new(schema),
            classes: source.classes.clone(),
            dim: options.dim,
            shard_bytes: options.shard_bytes,
            finished,
            open: None,
            group: FeatureGroup::default(),
            next_row,
            bad_rows,
        })))
    }
}

impl FeatureOptions {
    /// Returns the metadata for readers, as JSON.
    fn about(&self, job: &FeatureJob) -> String {
        let mut about = job.settings.clone();
        about.extend(self.about.clone());
        about.insert("source".into(), self.source.clone());
        about.insert("dim".into(), self.dim.to_string());
        serde_json::to_string(&about).expect("strings always become JSON")
    }
}

impl FeatureWriter {
    /// Returns the source's row to continue with.
    pub fn next_row(&self) -> u64 {
        self.next_row
    }

    /// Returns the bad rows of the source before [`Self::next_row`].
    pub fn bad_rows(&self) -> &[u64] {
        &self.bad_rows
    }

    /// Returns the path at which the pass over the source must list bad samples.
    pub fn quarantine_path(&self) -> &Path {
        self.journal.quarantine_path()
    }

    /// Adds the features of the next samples, and closes the shard if it is full.
    ///
    /// # Panics
    ///
    /// If the lengths do not agree with each other.
    pub fn add(&mut self, rows: &FeatureRows<'_>) -> Result<()> {
        let Some(last) = rows.samples.last() else {
            return Ok(());
        };
        self.group.push(rows, self.dim);
        self.next_row = last.row + 1;
        if self.group.bytes() >= GROUP_BYTES.min(self.shard_bytes) {
            self.close_group()?;
        }
        let is_full = |shard: &ShardWriter| shard.bytes() >= self.shard_bytes;
        if self.open.as_ref().is_some_and(is_full) {
            self.close_shard()?;
        }
        Ok(())
    }

    /// Closes the shard: the next run continues with [`Self::next_row`].
    pub fn interrupt(mut self) -> Result<FeatureReport> {
        self.close_shard()?;
        report(&self.journal, &self.manifest(), End::Interrupted)
    }

    /// Closes the last shard and writes the manifest, which completes the dataset.
    pub fn finish(mut self) -> Result<FeatureReport> {
        self.close_shard()?;
        let manifest = self.manifest();
        self.journal.finish(&manifest)?;
        report(&self.journal, &manifest, End::Written)
    }

    fn close_group(&mut self) -> Result<()> {
        let group = std::mem::take(&mut self.group);
        let shard = match &mut self.open {
            Some(shard) => shard,
            empty => {
                let path = self.journal.temporary(&shard_name(self.finished.len()));
                empty.insert(ShardWriter::create(&path, &self.schema, &[], GROUP_BYTES)?)
            }
        };
        shard.write_group(&group.into_batch(&self.schema))
    }

    fn close_shard(&mut self) -> Result<()> {
        if !self.group.values.is_empty() {
            self.close_group()?;
        }
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        let entry = JournalEntry {
            next_sample: self.next_row,
            quarantined: 0,
            quarantine_bytes: 0,
            carry: Vec::new(),
            rows_of_next: 0,
            tokens: None,
            shard: open.finish(&shard_name(self.finished.len()))?,
        };
        self.journal.commit(&entry)?;
        self.finished.push(entry);
        Ok(())
    }

    fn manifest(&self) -> Manifest {
        let shards = self.finished.iter().map(|entry| entry.shard.clone());
        Manifest::new(
            &FEATURES.name,
            FEATURES.version,
            self.classes.clone(),
            shards.collect(),
        )
    }
}

/// Rows of the row group that is being filled.
#[derive(Debug, Default)]
struct FeatureGroup {
    row: UInt64Builder,
    path: StringBuilder,
    label: Int64Builder,
    n_vectors: Vec<usize>,
    values: Vec<f32>,
}

impl FeatureGroup {
    fn push(&mut self, rows: &FeatureRows<'_>, dim: usize) {
        let n_vectors = match rows.n_vectors {
            Some(n_vectors) => n_vectors.to_vec(),
            None => vec![1; rows.samples.len()],
        };
        assert_eq!(rows.keys.len(), rows.samples.len(), "a key per sample");
        assert_eq!(n_vectors.len(), rows.samples.len(), "a count per sample");
        let n_values = n_vectors.iter().sum::<usize>() * dim;
        assert_eq!(rows.values.len(), n_values, "D numbers per vector");
        for (sample, key) in rows.samples.iter().zip(rows.keys) {
            self.row.append_value(sample.row);
            self.path.append_option(key.path.as_deref());
            self.label.append_option(key.label);
        }
        self.n_vectors.extend(n_vectors);
        self.values.extend_from_slice(rows.values);
    }

    fn bytes(&self) -> u64 {
        size_of_val(self.values.as_slice()) as u64
    }

    fn into_batch(mut self, schema: &SchemaRef) -> RecordBatch {
        let values = Arc::new(Float32Array::from(self.values));
        let vectors = |item: &FieldRef, dim: i32| {
            Arc::new(FixedSizeListArray::new(item.clone(), dim, values, None))
        };
        let features: ArrayRef = match schema.field(3).data_type() {
            DataType::FixedSizeList(item, dim) => vectors(item, *dim),
            DataType::List(vector) => {
                let DataType::FixedSizeList(item, dim) = vector.data_type() else {
                    unreachable!("features per position are lists of vectors");
                };
                let offsets = OffsetBuffer::from_lengths(self.n_vectors);
                let vectors = vectors(item, *dim);
                Arc::new(ListArray::new(vector.clone(), offsets, vectors, None))
            }
            _ => unreachable!("features are vectors or lists of them"),
        };
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.row.finish()),
            Arc::new(self.path.finish()),
            Arc::new(self.label.finish()),
            features,
        ];
        RecordBatch::try_new(schema.clone(), columns)
            .expect("the columns are those of features.toml, which tests write")
    }
}

/// Settings that a resumed run must share with the run before it.
#[derive(Debug, Serialize, Deserialize)]
struct FeatureJob {
    schema: String,
    #[serde(default)]
    settings: BTreeMap<String, String>,
}

impl ResumeSettings for FeatureJob {
    fn changed_settings(&self, now: &Self) -> Vec<String> {
        if self.schema != now.schema {
            return vec![format!("schema ({}, now {})", self.schema, now.schema)];
        }
        let mut names: Vec<&String> = self.settings.keys().chain(now.settings.keys()).collect();
        names.sort_unstable();
        names.dedup();
        let show = |value: Option<&String>| value.map_or("none", String::as_str).to_owned();
        let pairs = names
            .into_iter()
            .map(|name| (name, self.settings.get(name), now.settings.get(name)));
        pairs
            .filter(|(_, then, now)| then != now)
            .map(|(name, then, now)| format!("{name} ({}, now {})", show(then), show(now)))
            .collect()
    }
}

/// Returns the bad rows before `next_row`, and drops all other lines of the quarantine file.
fn retain_bad_rows(journal: &Journal, source: &Dataset, next_row: u64) -> Result<Vec<u64>> {
    let path = journal.quarantine_path();
    let Some(text) = read_if_exists(path)? else {
        return Ok(Vec::new());
    };
    let row_of = |line: &str| {
        let line: BadRowLine = serde_json::from_str(line).ok()?;
        let shard = source
            .shards
            .iter()
            .find(|shard| shard.path == line.shard)?;
        Some(shard.first_row + line.row).filter(|row| *row < next_row)
    };
    let (mut rows, mut kept) = (Vec::new(), String::new());
    for line in String::from_utf8_lossy(&text).lines() {
        if let Some(row) = row_of(line) {
            rows.push(row);
            // Writing to a string never fails.
            let _ = writeln!(kept, "{line}");
        }
    }
    let io = |source| Error::Io {
        path: path.to_owned(),
        source,
    };
    if rows.is_empty() {
        std::fs::remove_file(path).map_err(io)?;
    } else {
        let temporary = journal.temporary(QUARANTINE_NAME);
        std::fs::write(&temporary, kept).map_err(io)?;
        std::fs::rename(&temporary, path).map_err(io)?;
    }
    Ok(rows)
}

/// Returns the XXH3-64 of the concatenated files of a folder, as 16 hexadecimal digits.
pub fn files_xxh3(folder: &Folder, names: &[&str]) -> Result<String> {
    let mut hash = Xxh3::new();
    for name in names {
        hash.update(&folder.read_large(name)?.unwrap_or_default());
    }
    Ok(format!("{:016x}", hash.digest()))
}

/// Removes the shards from number `i` on, which have no journal entry any more.
fn remove_from(set: &Folder, i: usize) -> Result<()> {
    let there: BTreeSet<String> = set.files()?.into_iter().map(|(name, _)| name).collect();
    let unrecorded = (i..).map(shard_name);
    let unrecorded: Vec<_> = unrecorded.take_while(|name| there.contains(name)).collect();
    set.remove(&unrecorded)
}

fn shard_name(i: usize) -> String {
    format!("features-{i:05}.parquet")
}

fn report(journal: &Journal, manifest: &Manifest, end: End) -> Result<FeatureReport> {
    Ok(FeatureReport {
        dataset: journal.dataset().url(),
        rows: manifest.rows,
        bytes: manifest.shards.iter().map(|shard| shard.bytes).sum(),
        shards: manifest.shards.len(),
        quarantined: BadSamples::count(journal.quarantine_path())?,
        end,
    })
}
