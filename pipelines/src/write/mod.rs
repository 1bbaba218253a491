//! A corpus becomes a set of shards.
//!
//! ```text
//! SOURCE… ─ discover ─> sets (train, val) ─ survey ─> classes, fingerprint
//!                         │
//!                         └─ read ─> check on all threads ─> rows, in order ─> shard-00000.parquet …
//!                                                       └─> quarantine.jsonl   manifest.json last
//! ```
//!
//! The order is the source's own, sorted by name; the same source and settings give the same bytes
//! in the same shards. A run may be killed at any moment: [`resume`] tells how the next one goes on.

mod class_folder;
mod columnar;
mod labels;
mod lease;
mod picture;
pub mod resume;
mod set;
mod source;
mod stream;
mod webdataset;
mod writer;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use understudy_schemas::IMAGE;

use self::labels::{Labels, SeenLabels};
use self::lease::Lease;
use self::resume::{Job, Notes, State};
use self::set::SetWriter;
use self::source::{Source, Survey};
use self::stream::{Work, stream};
use crate::shard::Manifest;
use crate::{Error, Result};

/// What to write, and where.
#[derive(Debug, Clone)]
pub struct WriteOptions {
    /// Class folders, WebDataset tars, Parquet or Arrow files, or folders of these.
    pub sources: Vec<PathBuf>,
    /// The folder of the set, or of the sets `train` and `val`.
    pub to: PathBuf,
    /// Our name of a column (`image`, `label`) → the source's; an empty name leaves labels out.
    pub columns: BTreeMap<String, String>,
    /// Another set, whose class list is used.
    pub labels: Option<PathBuf>,
    /// What becomes of each picture.
    pub recipe: Recipe,
    /// Size at which a shard is closed, in bytes.
    pub shard_bytes: u64,
    /// Size at which a row group is closed, in bytes of pictures.
    pub row_group_bytes: u64,
    /// Threads that check and encode.
    pub threads: usize,
}

/// What becomes of each picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipe {
    /// Larger pictures are made so many pixels at the short side (and stored as JPEG).
    pub resize_short: Option<u32>,
    /// Quality of the JPEGs that are encoded anew, 1–100.
    pub quality: u8,
    /// Which pictures are encoded anew.
    pub encode: Encode,
    /// How pictures are tested.
    pub check: Check,
}

/// Which pictures are encoded anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encode {
    /// Only those that are resized; the rest stay as they came.
    Keep,
    /// All, as JPEG.
    Jpeg,
}

/// How pictures are tested before they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// Decoded whole: finds truncated and damaged files.
    Decode,
    /// The header alone: many times faster, finds only what is no picture or over a limit.
    Header,
}

/// How far a run is.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// The set that is being written.
    pub set: &'a Path,
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
pub struct Report {
    /// The set's folder.
    pub set: PathBuf,
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
    /// Files of the source that are no samples.
    pub ignored: u64,
    /// Samples that an earlier run had done.
    pub resumed_from: u64,
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
struct Part {
    folder: PathBuf,
    /// Shards are `<stem>-00000.parquet`.
    stem: &'static str,
    sources: Vec<Source>,
    survey: Survey,
}

/// Writes the sets, or what is missing of them. `progress` is told after each block of samples;
/// `stop` ends the run at the next one. Returns a report per set; the last may be interrupted.
pub fn write(
    options: &WriteOptions,
    progress: &mut dyn FnMut(Progress),
    stop: &AtomicBool,
) -> Result<Vec<Report>> {
    refuse_nesting(options)?;
    let mut parts = Vec::new();
    for (name, sources) in source::discover(&options.sources, &options.columns)? {
        let folder = name.map_or_else(|| options.to.clone(), |name| options.to.join(name));
        let mut survey = Survey::default();
        for source in &sources {
            source.survey(&mut survey)?;
        }
        if survey.samples == 0 {
            let reason = "no samples in it".to_owned();
            return Err(Error::Source {
                path: options.sources[0].clone(),
                reason,
            });
        }
        parts.push(Part {
            folder,
            stem: name.unwrap_or("shard"),
            sources,
            survey,
        });
    }
    let seen = SeenLabels::joined(parts.iter().map(|part| &part.survey.labels));
    let given = match &options.labels {
        Some(from) => Some((from.display().to_string(), labels::read_classes(from)?)),
        None => None,
    };
    let labels = Labels::settle(seen, given)?;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(options.threads)
        .build()
        .map_err(|e| Error::Config(vec![format!("--threads {}: {e}", options.threads)]))?;
    let mut reports = Vec::new();
    for part in &parts {
        let report = write_set(part, &labels, options, &pool, progress, stop)?;
        let interrupted = report.end == End::Interrupted;
        reports.push(report);
        if interrupted {
            break;
        }
    }
    Ok(reports)
}

fn write_set(
    part: &Part,
    labels: &Labels,
    options: &WriteOptions,
    pool: &rayon::ThreadPool,
    progress: &mut dyn FnMut(Progress),
    stop: &AtomicBool,
) -> Result<Report> {
    let start = Instant::now();
    let notes = Notes::open(&part.folder)?;
    let _lease = Lease::take(&notes.lease_path(), &part.folder)?;
    let job = Job {
        schema: IMAGE.name.clone(),
        schema_version: IMAGE.version,
        source_xxh3: format!("{:016x}", part.survey.hash.digest()),
        samples: part.survey.samples,
        classes: labels.classes.clone(),
        recipe: options.recipe.clone(),
        shard_bytes: options.shard_bytes,
        row_group_bytes: options.row_group_bytes,
    };
    let finished = match notes.begin(&job, |i| part.shard_name(i))? {
        State::Finished(manifest) => {
            let quarantined = part.survey.samples - manifest.rows.min(part.survey.samples);
            return Ok(part.report(&manifest, quarantined, start, End::AlreadyThere));
        }
        State::Begun(finished) => finished,
    };
    let schema = Arc::new(IMAGE.arrow(labels.classes.as_deref()));
    let mut set = SetWriter::resume(part, &notes, options, schema, finished)?;
    let resumed_from = set.next_sample;
    let work = Work {
        sources: &part.sources,
        skip: set.next_sample,
        recipe: &options.recipe,
        labels,
    };
    let flow = stream(work, pool, stop, |outcomes| {
        set.add(outcomes)?;
        progress(set.progress());
        Ok(())
    })?;
    let (manifest, quarantined, end) = match flow {
        ControlFlow::Break(()) => (set.manifest(labels), set.bad.count, End::Interrupted),
        ControlFlow::Continue(()) => {
            set.close_shard()?;
            let manifest = set.manifest(labels);
            if manifest.rows == 0 {
                let reason = format!(
                    "none of its {} samples is good; {} says why",
                    part.survey.samples,
                    notes.quarantine_path().display()
                );
                return Err(Error::Source {
                    path: options.sources[0].clone(),
                    reason,
                });
            }
            let quarantined = set.bad.count;
            set.bad.finish()?;
            notes.finish(&manifest)?;
            (manifest, quarantined, End::Written)
        }
    };
    Ok(Report {
        resumed_from,
        ..part.report(&manifest, quarantined, start, end)
    })
}

impl Part {
    fn shard_name(&self, i: usize) -> String {
        format!("{}-{i:05}.parquet", self.stem)
    }

    fn report(&self, manifest: &Manifest, quarantined: u64, start: Instant, end: End) -> Report {
        Report {
            set: self.folder.clone(),
            rows: manifest.rows,
            bytes: manifest.shards.iter().map(|shard| shard.bytes).sum(),
            shards: manifest.shards.len(),
            classes: manifest.classes.clone(),
            quarantined,
            ignored: self.survey.ignored,
            resumed_from: 0,
            took: start.elapsed(),
            end,
        }
    }
}

/// Shards inside their own source would be a part of it at the next run.
fn refuse_nesting(options: &WriteOptions) -> Result<()> {
    let to = real_path(&options.to);
    for source in &options.sources {
        if to.starts_with(real_path(source)) {
            return Err(Error::Config(vec![format!(
                "--to {} lies inside the source {}; choose a folder outside",
                options.to.display(),
                source.display()
            )]));
        }
    }
    Ok(())
}

/// The path without links, also where its last parts are not there yet.
fn real_path(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let there = path
        .ancestors()
        .find_map(|a| Some((a, a.canonicalize().ok()?)));
    match there {
        Some((ancestor, real)) => match path.strip_prefix(ancestor) {
            Ok(rest) if !rest.as_os_str().is_empty() => real.join(rest),
            _ => real,
        },
        None => path,
    }
}
