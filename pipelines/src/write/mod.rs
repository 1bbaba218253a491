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
//! the same bytes in the same shards. A run may be killed at any moment: `shards::journal` tells how the
//! next one goes on.

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
use self::workers::{EncodeTask, stream};
use crate::store::{Folder, StoreOptions};
use crate::tokenize::Tokenizer;
use crate::{Error, Result};

/// Writes the sets, or what is missing of them. `progress` is told after each block of samples;
/// `stop` ends the run at the next one. Returns a report per set; the last may be interrupted.
pub fn write(
    options: &WriteOptions,
    progress: &mut dyn FnMut(Progress),
    stop: &AtomicBool,
) -> Result<Vec<WriteReport>> {
    let to = Folder::open(&options.to, &StoreOptions::default())?;
    refuse_nesting(&to, &options.sources)?;
    let (sets, mut ignored) = discover(
        &options.sources,
        options.encode.modality(),
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
            return Err(no_samples(sources[0].path(), &options.encode));
        }
        parts.push(DatasetJob {
            folder,
            stem: name.unwrap_or("shard"),
            sources,
            survey,
        });
    }
    let seen = SeenLabels::joined(parts.iter().map(|part| &part.survey.labels));
    let given = match &options.labels {
        Some(from) => Some((from.clone(), classes::read_classes(from)?)),
        None => None,
    };
    let labels = match options.encode {
        EncodeOptions::Tokens(_) => LabelMap::settle(SeenLabels::default(), None)?,
        _ => LabelMap::settle(seen, given)?,
    };
    let tokens = open_tokenizer(&options.encode, &parts)?;
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
    part: &DatasetJob,
    labels: &LabelMap,
    tokens: Option<&(Tokenizer, Vocabulary)>,
    options: &WriteOptions,
    pool: &rayon::ThreadPool,
    progress: &mut dyn FnMut(Progress),
    stop: &AtomicBool,
) -> Result<WriteReport> {
    let start = Instant::now();
    let notes = Journal::open(&part.folder)?;
    let schema = options.encode.schema();
    let vocabulary = tokens.map(|(_, vocabulary)| vocabulary);
    let settings = WriteSettings {
        schema: schema.name.clone(),
        schema_version: schema.version,
        source_xxh3: format!("{:016x}", part.survey.hash.digest()),
        samples: part.survey.samples,
        classes: labels.classes.clone(),
        encode: options.encode.clone(),
        vocabulary: vocabulary.cloned(),
        columns: options.columns.clone(),
        order_seed: ORDER_SEED,
        shard_bytes: options.shard_bytes,
        row_group_bytes: options.row_group_bytes,
    };
    let finished = match notes.begin(&settings, |i| part.shard_name(i))? {
        EarlierRun::Finished(manifest) => {
            let quarantined = BadSamples::count(notes.quarantine_path())?;
            return Ok(part.report(&manifest, quarantined, start, End::AlreadyThere));
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
    let mut set = DatasetWriter::resume(part, &notes, options, Arc::new(arrow), packer, finished)?;
    let resumed_from = set.next_sample;
    let work = EncodeTask {
        sources: &part.sources,
        skip: set.next_sample,
        options: &options.encode,
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
                return Err(no_good_sample(part, &notes, &options.encode)?);
            }
            let (fill, quarantined) = (set.fill(), set.bad.count);
            set.bad.finish()?;
            notes.finish(&manifest)?;
            (manifest, fill, quarantined, End::Written)
        }
    };
    Ok(WriteReport {
        resumed_from,
        fill,
        ..part.report(&manifest, quarantined, start, end)
    })
}

/// The tokenizer of a token set, and what its files say of it.
fn open_tokenizer(
    options: &EncodeOptions,
    parts: &[DatasetJob],
) -> Result<Option<(Tokenizer, Vocabulary)>> {
    let EncodeOptions::Tokens(options) = options else {
        return Ok(None);
    };
    let mut sources = parts.iter().flat_map(|part| &part.sources);
    if sources.any(|source| matches!(source, SampleSource::GlueTable(_))) {
        return Err(Error::Config(vec![
            "--tokenizer: packs running text, and a source is a table of sentences (.tsv), whose \
             labels and pairs would be lost; write it without --tokenizer"
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
