//! Writes a corpus as one or more datasets of shards.
//!
//! ```text
//! SOURCE… ─ discover ─> splits (train, val) ─ survey ─> classes, fingerprint
//!                         │
//!                         └─ read ─> encode on all threads ─> rows, in order ─> shard-00000.parquet …
//!                                    (texts: tokenize)   │    (tokens: pack)    manifest.json last
//!                                                        └─> quarantine.jsonl
//! ```
//!
//! Files are written in a random order keyed by a fixed seed, because training shuffles only rows that
//! are near each other. Tars, columnar files, tables and texts are written in their own order. The same
//! source and settings give the same bytes in the same shards. A run may be killed at any time: the
//! journal (`shards/journal.rs`) lets the next one resume.

mod classes;
mod discover;
mod encode;
pub mod features;
mod hints;
mod job;
mod options;
mod sample;
mod shards;
mod source;
mod workers;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use understudy_schemas::Vocabulary;

use self::classes::{LabelMap, SeenLabels};
use self::discover::discover;
use self::encode::pack::Packer;
use self::hints::{no_good_sample, no_samples};
use self::job::{DatasetJob, WriteSettings, refuse_nesting};
pub use self::job::{End, Progress, WriteOptions, WriteReport};
pub use self::options::{
    AudioOptions, BlockBoundary, Check, Encode, EncodeOptions, ImageOptions, TokenOptions,
};
use self::sample::Survey;
use self::shards::bad_samples::BadSamples;
use self::shards::dataset_writer::DatasetWriter;
use self::shards::journal::{EarlierRun, Journal};
use self::source::SampleSource;
use self::source::files::ORDER_SEED;
use self::workers::{EncodeTask, encode_all};
use crate::store::{Folder, StoreOptions};
use crate::tokenize::Tokenizer;
use crate::{Error, Result};

/// Writes the datasets, or what is missing of them.
///
/// Calls `progress` after each block of samples, and stops after the current block once `stop` is set.
/// Returns a report per dataset; the last may be interrupted.
pub fn write(
    options: &WriteOptions,
    progress: &mut dyn FnMut(Progress),
    stop: &AtomicBool,
) -> Result<Vec<WriteReport>> {
    let to = Folder::open(&options.to, &StoreOptions::default())?;
    refuse_nesting(&to, &options.sources)?;
    let (splits, mut ignored) = discover(
        &options.sources,
        options.encode.modality(),
        &options.columns,
    )?;
    let mut jobs = Vec::new();
    for (name, sources) in splits {
        let folder = name.map_or_else(|| to.clone(), |name| to.join(name));
        let mut survey = Survey {
            // Files next to all datasets are counted once, for the first.
            ignored: std::mem::take(&mut ignored),
            ..Survey::default()
        };
        for source in &sources {
            source.survey(&mut survey)?;
        }
        if survey.samples == 0 {
            return Err(no_samples(sources[0].path(), &options.encode));
        }
        jobs.push(DatasetJob {
            folder,
            stem: name.unwrap_or("shard"),
            sources,
            survey,
        });
    }
    let seen = SeenLabels::merged(jobs.iter().map(|job| &job.survey.labels));
    let given = match &options.labels {
        Some(from) => Some((from.clone(), classes::read_classes(from)?)),
        None => None,
    };
    let labels = match options.encode {
        EncodeOptions::Tokens(_) => LabelMap::build(SeenLabels::default(), None)?,
        _ => LabelMap::build(seen, given)?,
    };
    let tokens = open_tokenizer(&options.encode, &jobs)?;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(options.threads)
        .build()
        .map_err(|e| Error::Config(vec![format!("--threads {}: {e}", options.threads)]))?;
    let mut reports = Vec::new();
    for job in &jobs {
        let report = write_dataset(
            job,
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

fn write_dataset(
    job: &DatasetJob,
    labels: &LabelMap,
    tokens: Option<&(Tokenizer, Vocabulary)>,
    options: &WriteOptions,
    pool: &rayon::ThreadPool,
    progress: &mut dyn FnMut(Progress),
    stop: &AtomicBool,
) -> Result<WriteReport> {
    let start = Instant::now();
    let journal = Journal::open(&job.folder)?;
    let schema = options.encode.schema();
    let vocabulary = tokens.map(|(_, vocabulary)| vocabulary);
    let settings = WriteSettings {
        schema: schema.name.clone(),
        schema_version: schema.version,
        source_xxh3: format!("{:016x}", job.survey.hash.digest()),
        samples: job.survey.samples,
        classes: labels.classes.clone(),
        encode: options.encode.clone(),
        vocabulary: vocabulary.cloned(),
        columns: options.columns.clone(),
        order_seed: ORDER_SEED,
        shard_bytes: options.shard_bytes,
        row_group_bytes: options.row_group_bytes,
    };
    let finished = match journal.begin(&settings, |i| job.shard_name(i))? {
        EarlierRun::Finished(manifest) => {
            let quarantined = BadSamples::count(journal.quarantine_path())?;
            return Ok(job.report(&manifest, quarantined, start, End::AlreadyThere));
        }
        EarlierRun::Unfinished(finished) => finished,
    };
    let arrow = match vocabulary {
        Some(vocabulary) => schema.arrow_tokens(vocabulary),
        None => schema.arrow(labels.classes.as_deref()),
    };
    let packer = match (&options.encode, vocabulary) {
        (EncodeOptions::Tokens(token_options), Some(vocabulary)) => Some(Packer::new(
            vocabulary.clone(),
            token_options.break_at,
            Vec::new(),
        )),
        _ => None,
    };
    let mut writer =
        DatasetWriter::resume(job, &journal, options, Arc::new(arrow), packer, finished)?;
    let resumed_from = writer.next_sample;
    let task = EncodeTask {
        sources: &job.sources,
        skip: writer.next_sample,
        options: &options.encode,
        labels,
        tokenizer: tokens.map(|(tokenizer, _)| tokenizer),
    };
    let flow = encode_all(task, pool, stop, |outcomes| {
        writer.add(outcomes)?;
        progress(writer.progress());
        Ok(())
    })?;
    let (manifest, fill, quarantined, end) = match flow {
        ControlFlow::Break(()) => {
            let (manifest, bad) = (writer.manifest(labels), writer.bad.count);
            (manifest, writer.fill(), bad, End::Interrupted)
        }
        ControlFlow::Continue(()) => {
            writer.finish()?;
            let manifest = writer.manifest(labels);
            if manifest.rows == 0 {
                journal.send_quarantine()?;
                return Err(no_good_sample(job, &journal, &options.encode)?);
            }
            let (fill, quarantined) = (writer.fill(), writer.bad.count);
            writer.bad.finish()?;
            journal.finish(&manifest)?;
            (manifest, fill, quarantined, End::Written)
        }
    };
    Ok(WriteReport {
        resumed_from,
        fill,
        ..job.report(&manifest, quarantined, start, end)
    })
}

/// Opens the tokenizer of a token dataset, and returns it with its vocabulary.
fn open_tokenizer(
    options: &EncodeOptions,
    jobs: &[DatasetJob],
) -> Result<Option<(Tokenizer, Vocabulary)>> {
    let EncodeOptions::Tokens(options) = options else {
        return Ok(None);
    };
    let mut sources = jobs.iter().flat_map(|job| &job.sources);
    if sources.any(|source| matches!(source, SampleSource::GlueTable(_))) {
        return Err(Error::Config(vec![
            "--tokenizer: cannot pack a table of sentences (.tsv), whose labels and pairs would be \
             lost\nhint: write it without --tokenizer"
                .to_owned(),
        ]));
    }
    let tokenizer = Tokenizer::open(&options.tokenizer)?;
    let special = tokenizer.special_tokens();
    let name = options.tokenizer.file_name().unwrap_or_default();
    let vocabulary = Vocabulary {
        name: name.to_string_lossy().into_owned(),
        vocab_size: special.vocab_size,
        bos: special.bos,
        eos: special.eos,
        pad: special.pad,
        unk: special.unk,
        mask: special.mask,
        width_bytes: if special.vocab_size <= 1 << 16 { 2 } else { 4 },
        block_tokens: options.block_tokens,
        sha256: tokenizer.sha256().to_owned(),
    };
    Ok(Some((tokenizer, vocabulary)))
}
