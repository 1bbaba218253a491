//! The CPU pool: decodes the bytes of one row into one sample.

mod audio;
mod image;
mod text;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};

use super::sample_kind::SampleKind;
use super::{Event, io_error, panic_error};
use crate::batch::Key;
use crate::budget::DecodeShare;
use crate::config::{Limits, MaskConfig};
use crate::plan::Slot;
use crate::rng::SampleKey;
use crate::shard::{Mixture, Rows};
use crate::stats::Recorder;
use crate::{Error, Result, SampleError};

/// One row to work on. Tasks do not depend on each other.
pub(crate) struct Task {
    pub(crate) stream_idx: usize,
    /// Number of the row among those of its stream.
    pub(crate) number: u64,
    pub(crate) slot: Slot,
    pub(crate) rows: Arc<Rows>,
}

/// The result of a task.
#[derive(Debug)]
pub(crate) enum Outcome {
    Good(Sample),
    Bad(SampleError),
    /// An error that ends the pipeline, because it is not the row's.
    Failed(Error),
}

/// A decoded sample that waits for its place in a batch.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) media: SampleMedia,
    /// Masks of an image, `[n_masks, n_patches]`; empty in evaluation, and for audio and text, whose
    /// masks are drawn when the batch's length is known.
    pub(crate) masks: Vec<u8>,
    pub(crate) metadata: RowMetadata,
}

/// The label or the key of a row.
#[derive(Debug)]
pub(crate) enum RowMetadata {
    /// In training, and in evaluation of a dataset without labels.
    None,
    /// In evaluation of a labelled dataset: the class number.
    Label(i64),
    /// In a pass with keys.
    Key(Key),
}

/// The decoded media of one sample.
#[derive(Debug)]
pub(crate) enum SampleMedia {
    /// RGB, `[size, size, 3]`.
    Pixels(Vec<u8>),
    /// PCM frames at the config's rate, normalised to mean 0 and variance 1.
    Waveform(SequenceCrop<f32>),
    /// Token ids with special tokens, without padding.
    Tokens(Vec<u32>),
}

/// A crop of a longer sequence, at a place that does not depend on the crop's length: a shorter crop
/// at the same place is inside a longer one.
#[derive(Debug)]
pub(crate) struct SequenceCrop<T> {
    pub(crate) values: Vec<T>,
    /// Length of the sequence before cropping.
    full_len: usize,
    /// Place of the crop in the sequence, as a fraction of 2^64.
    place: u64,
}

impl<T> SequenceCrop<T> {
    /// Keeps at most `max_len` of the values.
    pub(crate) fn new(mut values: Vec<T>, max_len: usize, place: u64) -> Self {
        let full_len = values.len();
        if full_len > max_len {
            values.drain(..start(full_len, max_len, place));
            values.truncate(max_len);
            values.shrink_to_fit();
        }
        Self {
            values,
            full_len,
            place,
        }
    }

    /// Returns the `n` values that a crop of length `n` at the same place has.
    pub(crate) fn shorter(&self, n: usize) -> &[T] {
        let offset = start(self.full_len, n, self.place)
            - start(self.full_len, self.values.len(), self.place);
        &self.values[offset..offset + n]
    }
}

/// Returns the index at which a crop of `n` of `full_len` values begins: uniform over all indices if
/// `place` is uniform over all numbers.
fn start(full_len: usize, n: usize, place: u64) -> usize {
    ((u128::from(place) * (full_len - n + 1) as u128) >> 64) as usize
}

/// Everything that the threads of the pool share.
pub(crate) struct Worker {
    pub(crate) mixture: Arc<Mixture>,
    pub(crate) kind: Arc<SampleKind>,
    pub(crate) mask: MaskConfig,
    pub(crate) seed: u64,
    pub(crate) limits: Limits,
    /// Whether samples have labels and no masks, and are not cropped at random.
    pub(crate) evaluate: bool,
    /// Whether samples have a key: path and label if the row has them. Else a label must be valid.
    pub(crate) keyed: bool,
    pub(crate) share: DecodeShare,
    pub(crate) recorder: Arc<Recorder>,
}

impl Worker {
    /// Checks the hash and the header, decodes, crops and draws masks.
    pub(crate) fn sample(&self, task: &Task) -> Outcome {
        let sample = match &*self.kind {
            SampleKind::Image(config) => self.image(task, config),
            SampleKind::Audio { config, max_frames } => self.audio(task, config, *max_frames),
            SampleKind::Text {
                max_tokens,
                tokenizer,
            } => self.text(task, tokenizer, *max_tokens),
            SampleKind::Tokens(info) => Ok(self.tokens(task, info)),
        };
        match sample {
            Ok(Ok(sample)) => Outcome::Good(sample),
            Ok(Err(bad)) => Outcome::Bad(bad),
            Err(failed) => Outcome::Failed(failed),
        }
    }

    /// Returns a row's bytes and its metadata; an error if the hash differs from the written one or the
    /// label is invalid.
    fn check<'a>(&self, task: &'a Task) -> Result<(&'a [u8], RowMetadata), SampleError> {
        let row = task.slot.row_in_group as usize;
        let bytes = task.rows.checked(row)?;
        let metadata = if self.keyed {
            RowMetadata::Key(Key {
                path: task.rows.path(row).map(str::to_owned),
                // A missing or invalid label does not make the media bad.
                label: task.rows.label(row).ok().flatten(),
            })
        } else if self.evaluate {
            task.rows
                .label(row)?
                .map_or(RowMetadata::None, RowMetadata::Label)
        } else {
            RowMetadata::None
        };
        Ok((bytes, metadata))
    }

    fn key(&self, task: &Task) -> SampleKey {
        SampleKey {
            seed: self.seed,
            epoch: task.slot.epoch,
            sample: task.slot.row,
        }
    }

    /// Returns a row's number and shard, for messages.
    fn place(&self, task: &Task) -> String {
        let (_, shard, row) = self.mixture.place(task.slot.shard as usize, task.slot.row);
        format!("row {row} of {}", shard.path)
    }
}

/// Starts the pool. Its threads end when the sender of tasks is dropped, or at `stop`.
pub(crate) fn start_pool<W>(
    n_threads: usize,
    tasks: &Receiver<Task>,
    events: &Sender<Event>,
    stop: &Arc<AtomicBool>,
    work: &Arc<W>,
) -> Result<Vec<JoinHandle<()>>>
where
    W: Fn(&Task) -> Outcome + Send + Sync + 'static,
{
    let spawn = |i: usize| {
        let (tasks, events) = (tasks.clone(), events.clone());
        let (stop, work) = (Arc::clone(stop), Arc::clone(work));
        let body = move || {
            for task in tasks {
                if stop.load(Relaxed) || !run(task, &events, work.as_ref()) {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name(format!("shards-cpu-{i}"));
        thread
            .spawn(body)
            .map_err(|source| io_error("a thread of the CPU pool", source))
    };
    (0..n_threads).map(spawn).collect()
}

/// Runs one task and sends its outcome; returns false if the receiver was dropped.
fn run(task: Task, events: &Sender<Event>, work: &impl Fn(&Task) -> Outcome) -> bool {
    let outcome = catch_unwind(AssertUnwindSafe(|| work(&task)))
        .unwrap_or_else(|panic| Outcome::Failed(panic_error("decode", panic.as_ref())));
    let Task {
        stream_idx,
        number,
        rows,
        ..
    } = task;
    // The scheduler may drop the group when it receives the event.
    drop(rows);
    let event = Event::Sample {
        stream_idx,
        number,
        outcome,
    };
    events.send(event).is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn shorter_crop_equals_direct_crop(
            full_len in 1_usize..200, max_len in 1_usize..250, n in 1_usize..250, place: u64,
        ) {
            let max_len = max_len.min(full_len);
            let n = n.min(max_len);
            let crop = SequenceCrop::new((0..full_len).collect(), max_len, place);
            prop_assert_eq!(crop.values.len(), max_len);
            let direct = SequenceCrop::new((0..full_len).collect(), n, place);
            prop_assert_eq!(crop.shorter(n), direct.values.as_slice());
        }
    }

    #[test]
    fn crops_reach_both_ends_of_the_sequence() {
        let first = |place| SequenceCrop::new((0..10).collect(), 4, place).values[0];
        assert_eq!((first(0), first(u64::MAX)), (0, 6));
        assert_eq!(first(1 << 63), 3);
    }
}
