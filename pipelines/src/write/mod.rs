//! A corpus becomes a set of shards.
//!
//! ```text
//! SOURCE… ─ discover ─> sets (train, val) ─ survey ─> classes, fingerprint
//!                         │
//!                         └─ read ─> check on all threads ─> rows, in order ─> shard-00000.parquet …
//!                                    (texts: tokenise)  │    (tokens: pack)    manifest.json last
//!                                                       └─> quarantine.jsonl
//! ```
//!
//! Files come in a random order that a fixed seed keys, for training shuffles only what lies near;
//! tars, columnar files, tables and texts are read as they stand. The same source and settings give
//! the same bytes in the same shards. A run may be killed at any moment: [`resume`] tells how the
//! next one goes on.

mod cells;
mod columnar;
mod columns;
mod discover;
mod empty;
pub mod features;
mod files;
mod folder;
mod labels;
mod manifest;
mod names;
mod pack;
mod parts;
mod picture;
mod recipe;
mod recording;
pub mod resume;
mod row;
mod set;
mod source;
mod speech;
mod stream;
mod text;
mod text_file;
mod tsv;
mod webdataset;
mod writer;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use understudy_schemas::Vocabulary;

use self::discover::{ColumnMap, discover};
use self::empty::{no_good_sample, no_samples};
use self::files::ORDER_SEED;
use self::labels::{Labels, SeenLabels};
use self::pack::Packer;
pub use self::recipe::{AudioRecipe, Break, Check, Encode, ImageRecipe, Recipe, TokenRecipe};
use self::resume::{BadSamples, Job, Notes, State};
use self::set::SetWriter;
use self::source::{Source, Survey};
use self::stream::{Work, stream};
use crate::shard::Manifest;
use crate::store::{Folder, StoreOptions, real_path};
use crate::tokenize::Tokenizer;
use crate::{Error, Result};

/// What to write, and where.
#[derive(Debug, Clone)]
pub struct WriteOptions {
    /// Folders, tars, tables, texts, Parquet or Arrow files, or folders of these.
    pub sources: Vec<PathBuf>,
    /// The folder of the set, or of the sets `train` and `val`: a path or URL.
    pub to: String,
    /// Our name of a column (see [`Recipe::columns`]) → the source's; an empty name leaves it out.
    pub columns: ColumnMap,
    /// Another set, a path or URL, whose class list is used.
    pub labels: Option<String>,
    /// What becomes of each sample.
    pub recipe: Recipe,
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
pub struct Report {
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
struct Part {
    folder: Folder,
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
    let to = Folder::open(&options.to, &StoreOptions::default())?;
    refuse_nesting(&to, &options.sources)?;
    let (sets, mut ignored) = discover(
        &options.sources,
        options.recipe.modality(),
        &options.columns,
    )?;
    let mut parts = Vec::new();
    for (name, sources) in sets {
        let folder = name.map_or_else(|| to.clone(), |name| to.join(name));
        let mut survey = Survey {
            // What lies beside the sets is told once, with the first.
            ignored: std::mem::take(&mut ignored),
            ..Survey::default()
        };
        for source in &sources {
            source.survey(&mut survey)?;
        }
        if survey.samples == 0 {
            return Err(no_samples(sources[0].path(), &options.recipe));
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
        Some(from) => Some((from.clone(), labels::read_classes(from)?)),
        None => None,
    };
    let labels = match options.recipe {
        Recipe::Tokens(_) => Labels::settle(SeenLabels::default(), None)?,
        _ => Labels::settle(seen, given)?,
    };
    let tokens = open_tokenizer(&options.recipe, &parts)?;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(options.threads)
        .build()
        .map_err(|e| Error::Config(vec![format!("--threads {}: {e}", options.threads)]))?;
    let mut reports = Vec::new();
    for part in &parts {
        let report = write_set(
            part,
            &labels,
            tokens.as_ref(),
            options,
            &pool,
            progress,
            stop,
        )?;
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
    tokens: Option<&(Tokenizer, Vocabulary)>,
    options: &WriteOptions,
    pool: &rayon::ThreadPool,
    progress: &mut dyn FnMut(Progress),
    stop: &AtomicBool,
) -> Result<Report> {
    let start = Instant::now();
    let notes = Notes::open(&part.folder)?;
    let schema = options.recipe.schema();
    let vocabulary = tokens.map(|(_, vocabulary)| vocabulary);
    let job = Job {
        schema: schema.name.clone(),
        schema_version: schema.version,
        source_xxh3: format!("{:016x}", part.survey.hash.digest()),
        samples: part.survey.samples,
        classes: labels.classes.clone(),
        recipe: options.recipe.clone(),
        vocabulary: vocabulary.cloned(),
        columns: options.columns.clone(),
        order_seed: ORDER_SEED,
        shard_bytes: options.shard_bytes,
        row_group_bytes: options.row_group_bytes,
    };
    let finished = match notes.begin(&job, |i| part.shard_name(i))? {
        State::Finished(manifest) => {
            let quarantined = BadSamples::count(notes.quarantine_path())?;
            return Ok(part.report(&manifest, quarantined, start, End::AlreadyThere));
        }
        State::Begun(finished) => finished,
    };
    let arrow = match vocabulary {
        Some(vocabulary) => schema.arrow_tokens(vocabulary),
        None => schema.arrow(labels.classes.as_deref()),
    };
    let packer = match (&options.recipe, vocabulary) {
        (Recipe::Tokens(recipe), Some(vocabulary)) => {
            Some(Packer::new(vocabulary.clone(), recipe.break_at, Vec::new()))
        }
        _ => None,
    };
    let mut set = SetWriter::resume(part, &notes, options, Arc::new(arrow), packer, finished)?;
    let resumed_from = set.next_sample;
    let work = Work {
        sources: &part.sources,
        skip: set.next_sample,
        recipe: &options.recipe,
        labels,
        tokenizer: tokens.map(|(tokenizer, _)| tokenizer),
    };
    let flow = stream(work, pool, stop, |outcomes| {
        set.add(outcomes)?;
        progress(set.progress());
        Ok(())
    })?;
    let (manifest, fill, quarantined, end) = match flow {
        ControlFlow::Break(()) => {
            let (manifest, bad) = (set.manifest(labels), set.bad.count);
            (manifest, set.fill(), bad, End::Interrupted)
        }
        ControlFlow::Continue(()) => {
            set.finish()?;
            let manifest = set.manifest(labels);
            if manifest.rows == 0 {
                notes.send_quarantine()?;
                return Err(no_good_sample(part, &notes, &options.recipe)?);
            }
            let (fill, quarantined) = (set.fill(), set.bad.count);
            set.bad.finish()?;
            notes.finish(&manifest)?;
            (manifest, fill, quarantined, End::Written)
        }
    };
    Ok(Report {
        resumed_from,
        fill,
        ..part.report(&manifest, quarantined, start, end)
    })
}

/// The tokenizer of a token set, and what its files say of it.
fn open_tokenizer(recipe: &Recipe, parts: &[Part]) -> Result<Option<(Tokenizer, Vocabulary)>> {
    let Recipe::Tokens(recipe) = recipe else {
        return Ok(None);
    };
    let mut sources = parts.iter().flat_map(|part| &part.sources);
    if sources.any(|source| matches!(source, Source::Tsv(_))) {
        return Err(Error::Config(vec![
            "--tokenizer: packs running text, and a source is a table of sentences (.tsv), whose \
             labels and pairs would be lost; write it without --tokenizer"
                .to_owned(),
        ]));
    }
    let tokenizer = Tokenizer::open(&recipe.tokenizer)?;
    let specials = tokenizer.special_tokens();
    let name = recipe.tokenizer.file_name().unwrap_or_default();
    let vocabulary = Vocabulary {
        name: name.to_string_lossy().into_owned(),
        vocab_size: specials.vocab_size,
        bos: specials.bos,
        eos: specials.eos,
        pad: specials.pad,
        unk: specials.unk,
        mask: specials.mask,
        width_bytes: if specials.vocab_size <= 1 << 16 { 2 } else { 4 },
        block_tokens: recipe.block_tokens,
        sha256: tokenizer.sha256().to_owned(),
    };
    Ok(Some((tokenizer, vocabulary)))
}

impl Part {
    fn shard_name(&self, i: usize) -> String {
        format!("{}-{i:05}.parquet", self.stem)
    }

    fn report(&self, manifest: &Manifest, quarantined: u64, start: Instant, end: End) -> Report {
        Report {
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

/// Shards inside their own source would be a part of it at the next run.
fn refuse_nesting(to: &Folder, sources: &[PathBuf]) -> Result<()> {
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
