//! Writes the shards of one dataset: rows to the open shard, bad samples to the quarantine file, a
//! journal entry for each complete shard.

use arrow::datatypes::SchemaRef;

use crate::Result;
use crate::shard::Manifest;
use crate::write::classes::LabelMap;
use crate::write::encode::Encoded;
use crate::write::encode::pack::Packer;
use crate::write::encode::row::Row;
use crate::write::job::{DatasetJob, Progress, WriteOptions};
use crate::write::options::EncodeOptions;
use crate::write::shards::bad_samples::BadSamples;
use crate::write::shards::journal::{Journal, JournalEntry};
use crate::write::shards::parquet_writer::ShardWriter;
use crate::write::workers::Outcomes;

/// Writes the shards of one dataset.
pub(crate) struct DatasetWriter<'a> {
    job: &'a DatasetJob,
    journal: &'a Journal,
    options: &'a WriteOptions,
    schema: SchemaRef,
    finished: Vec<JournalEntry>,
    open: Option<ShardWriter>,
    /// Tokens of the open shard's blocks, without padding; only for token datasets.
    tokens: Option<u64>,
    /// Packer of token datasets.
    packer: Option<Packer>,
    /// Rows of the next sample that a finished shard contains already.
    skip_rows: usize,
    /// Quarantine file of the dataset.
    pub(crate) bad: BadSamples,
    /// Samples of the source consumed so far.
    pub(crate) next_sample: u64,
}

impl<'a> DatasetWriter<'a> {
    /// Resumes after the finished shards, or starts if there are none.
    pub(crate) fn resume(
        job: &'a DatasetJob,
        journal: &'a Journal,
        options: &'a WriteOptions,
        schema: SchemaRef,
        mut packer: Option<Packer>,
        finished: Vec<JournalEntry>,
    ) -> Result<Self> {
        let last = finished.last();
        let (bytes, count) =
            last.map_or((0, 0), |entry| (entry.quarantine_bytes, entry.quarantined));
        let bad = BadSamples::resume(journal.quarantine_path().to_owned(), bytes, count)?;
        let next_sample = last.map_or(0, |entry| entry.next_sample);
        let skip_rows = last.map_or(0, |entry| entry.rows_of_next);
        if let (Some(packer), Some(entry)) = (&mut packer, last) {
            packer.carry.clone_from(&entry.carry);
        }
        Ok(Self {
            job,
            journal,
            options,
            schema,
            finished,
            open: None,
            tokens: None,
            packer,
            skip_rows,
            bad,
            next_sample,
        })
    }

    /// Adds the results of one block of samples.
    pub(crate) fn add(&mut self, outcomes: Outcomes) -> Result<()> {
        for outcome in outcomes {
            match outcome {
                Ok(Encoded::Row(row)) => {
                    self.make_room(&row, &[], 0)?;
                    self.next_sample += 1;
                    self.push(&row, &[], 0)?;
                }
                Ok(Encoded::Document(document)) => {
                    let packer = self.packer.as_mut().expect("token datasets have a packer");
                    let before = packer.carry.clone();
                    let rows = packer.add(&document);
                    self.push_blocks(&rows, &before)?;
                    self.next_sample += 1;
                }
                Err(bad) => {
                    self.next_sample += 1;
                    self.bad.add(&bad)?;
                }
            }
        }
        Ok(())
    }

    /// Adds the blocks that the sample `next_sample` completed. A shard may end between two of them: its
    /// journal entry then lets the next run start with that sample, in the state `before` it, and skip
    /// the blocks that are written.
    fn push_blocks(&mut self, rows: &[Row], before: &[u32]) -> Result<()> {
        let skip = std::mem::take(&mut self.skip_rows);
        for (i, row) in rows.iter().enumerate().skip(skip) {
            self.make_room(row, before, i)?;
            self.push(row, before, i + 1)?;
        }
        Ok(())
    }

    /// Closes the row group that has no room for `row`, and the shard if it is full: if rows are large
    /// compared with a group, no group may ever end after a row.
    fn make_room(&mut self, row: &Row, carry: &[u32], rows_of_next: usize) -> Result<()> {
        let may_end = match &mut self.open {
            Some(shard) => shard.make_room(row)?,
            None => false,
        };
        self.end_if_full(may_end, carry, rows_of_next)
    }

    /// Adds a row, and closes the shard if it is full.
    fn push(&mut self, row: &Row, carry: &[u32], rows_of_next: usize) -> Result<()> {
        let shard = match &mut self.open {
            Some(shard) => shard,
            empty => {
                let name = self.job.shard_name(self.finished.len());
                let path = self.journal.temporary(&name);
                let media = self.options.encode.schema().columns.iter();
                let media: Vec<_> = media.filter(|c| c.media).map(|c| c.name.as_str()).collect();
                let group_bytes = self.options.row_group_bytes;
                empty.insert(ShardWriter::create(
                    &path,
                    &self.schema,
                    &media,
                    group_bytes,
                )?)
            }
        };
        let may_end = shard.push(row)?;
        if let Some(n_tokens) = row.n_tokens() {
            *self.tokens.get_or_insert_default() += n_tokens;
        }
        self.end_if_full(may_end, carry, rows_of_next)
    }

    /// Writes the last block and closes the last shard.
    pub(crate) fn finish(&mut self) -> Result<()> {
        if let Some(packer) = &mut self.packer {
            let before = packer.carry.clone();
            if let Some(last) = packer.flush() {
                self.make_room(&last, &before, 0)?;
                self.push(&last, &[], 0)?;
            }
        }
        self.close_shard(&[], 0)
    }

    /// Closes a full shard, but only at the end of a row group, so that its rows depend only on the source.
    fn end_if_full(&mut self, may_end: bool, carry: &[u32], rows_of_next: usize) -> Result<()> {
        let is_full = |shard: &ShardWriter| shard.bytes() >= self.options.shard_bytes;
        if may_end && self.open.as_ref().is_some_and(is_full) {
            self.close_shard(carry, rows_of_next)?;
        }
        Ok(())
    }

    /// Closes the shard, and records the start of the next one: the sample `next_sample`, in the state
    /// `carry`, after `rows_of_next` of its rows.
    fn close_shard(&mut self, carry: &[u32], rows_of_next: usize) -> Result<()> {
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        let entry = JournalEntry {
            next_sample: self.next_sample,
            quarantined: self.bad.count,
            quarantine_bytes: self.bad.bytes,
            carry: carry.to_vec(),
            rows_of_next,
            tokens: self.tokens.take(),
            shard: open.finish(&self.job.shard_name(self.finished.len()))?,
        };
        self.journal.commit(&entry)?;
        self.finished.push(entry);
        Ok(())
    }

    /// Returns the manifest of the finished shards.
    pub(crate) fn manifest(&self, labels: &LabelMap) -> Manifest {
        let shards = self
            .finished
            .iter()
            .map(|entry| entry.shard.clone())
            .collect();
        let schema = self.options.encode.schema();
        let classes = labels.classes.clone();
        Manifest::new(&schema.name, schema.version, classes, shards)
    }

    /// Returns the share of tokens in the finished shards that are not padding.
    pub(crate) fn fill(&self) -> Option<f64> {
        let EncodeOptions::Tokens(token_options) = &self.options.encode else {
            return None;
        };
        let rows: u64 = self.finished.iter().map(|entry| entry.shard.rows).sum();
        let tokens: u64 = self
            .finished
            .iter()
            .map(|entry| entry.tokens)
            .sum::<Option<_>>()?;
        let all = rows * u64::from(token_options.block_tokens);
        (all > 0).then(|| tokens as f64 / all as f64)
    }

    /// Returns the progress after the last block.
    pub(crate) fn progress(&self) -> Progress {
        Progress {
            dataset: self.journal.dataset().url(),
            done: self.next_sample,
            total: self.job.survey.samples,
            bytes: self.finished.iter().map(|entry| entry.shard.bytes).sum(),
            quarantined: self.bad.count,
        }
    }
}
