//! The shards of one set as they grow: rows into the open shard, bad samples into quarantine, a note
//! for each shard that is complete.

use arrow::datatypes::SchemaRef;
use understudy_schemas::IMAGE;

use super::labels::Labels;
use super::resume::{BadSamples, Note, Notes};
use super::stream::Outcomes;
use super::writer::ShardWriter;
use super::{Part, Progress, WriteOptions};
use crate::Result;
use crate::shard::Manifest;

/// The shards of one set as they grow.
pub(super) struct SetWriter<'a> {
    part: &'a Part,
    notes: &'a Notes,
    options: &'a WriteOptions,
    schema: SchemaRef,
    finished: Vec<Note>,
    open: Option<ShardWriter>,
    pub(super) bad: BadSamples,
    /// Samples of the source consumed so far.
    pub(super) next_sample: u64,
}

impl<'a> SetWriter<'a> {
    pub(super) fn resume(
        part: &'a Part,
        notes: &'a Notes,
        options: &'a WriteOptions,
        schema: SchemaRef,
        finished: Vec<Note>,
    ) -> Result<Self> {
        let last = finished.last();
        let (bytes, count) = last.map_or((0, 0), |note| (note.quarantine_bytes, note.quarantined));
        let bad = BadSamples::resume(notes.quarantine_path(), bytes, count)?;
        let next_sample = last.map_or(0, |note| note.next_sample);
        Ok(Self {
            part,
            notes,
            options,
            schema,
            finished,
            open: None,
            bad,
            next_sample,
        })
    }

    pub(super) fn add(&mut self, outcomes: Outcomes) -> Result<()> {
        for outcome in outcomes {
            self.next_sample += 1;
            let row = match outcome {
                Ok(row) => row,
                Err(bad) => {
                    self.bad.add(&bad)?;
                    continue;
                }
            };
            let shard = match &mut self.open {
                Some(shard) => shard,
                empty => {
                    let name = self.part.shard_name(self.finished.len());
                    let path = self.notes.temporary(&name);
                    let group_bytes = self.options.row_group_bytes;
                    empty.insert(ShardWriter::create(&path, &self.schema, group_bytes)?)
                }
            };
            let may_end = shard.push(&row)?;
            if may_end && shard.bytes() >= self.options.shard_bytes {
                self.close_shard()?;
            }
        }
        Ok(())
    }

    pub(super) fn close_shard(&mut self) -> Result<()> {
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        let note = Note {
            next_sample: self.next_sample,
            quarantined: self.bad.count,
            quarantine_bytes: self.bad.bytes,
            shard: open.finish(&self.part.shard_name(self.finished.len()))?,
        };
        self.notes.commit(&note)?;
        self.finished.push(note);
        Ok(())
    }

    pub(super) fn manifest(&self, labels: &Labels) -> Manifest {
        let shards = self
            .finished
            .iter()
            .map(|note| note.shard.clone())
            .collect();
        Manifest::new(&IMAGE.name, IMAGE.version, labels.classes.clone(), shards)
    }

    pub(super) fn progress(&self) -> Progress<'_> {
        Progress {
            set: &self.part.folder,
            done: self.next_sample,
            total: self.part.survey.samples,
            bytes: self.finished.iter().map(|note| note.shard.bytes).sum(),
            quarantined: self.bad.count,
        }
    }
}
