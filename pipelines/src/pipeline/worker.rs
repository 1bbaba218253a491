//! The CPU pool: one row's bytes become one sample.

mod audio;
mod image;
mod text;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};

use super::sample_kind::Recipe;
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
    /// The stream, and the number of the row in it: where the outcome belongs.
    pub(crate) stream_idx: usize,
    pub(crate) number: u64,
    pub(crate) slot: Slot,
    pub(crate) rows: Arc<Rows>,
}

/// What became of a row.
#[derive(Debug)]
pub(crate) enum Outcome {
    Good(Sample),
    Bad(SampleError),
    /// Nothing that another row could stand in for.
    Failed(Error),
}

/// A sample that waits for its place in a batch.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) media: SampleMedia,
    /// `[n_masks, n_patches]` of a picture; empty in evaluation, and where masks are drawn once the
    /// batch's length is known.
    pub(crate) masks: Vec<u8>,
    pub(crate) beside: Beside,
}

/// What a pass takes of a row beside its media.
#[derive(Debug)]
pub(crate) enum Beside {
    /// In training, and in evaluation of a set without labels.
    Nothing,
    /// In evaluation of a labelled set.
    Label(i64),
    /// In a pass with keys.
    Key(Key),
}

/// What came out of a row.
#[derive(Debug)]
pub(crate) enum SampleMedia {
    /// `[size, size, 3]`.
    Pixels(Vec<u8>),
    /// Frames at the recipe's rate, normalised.
    Wave(Window<f32>),
    /// The sample's own ids, specials included.
    Tokens(Vec<u32>),
}

/// A part of a longer sequence, at a place that does not depend on how long the part is: a shorter
/// one at the same place lies within it.
#[derive(Debug)]
pub(crate) struct Window<T> {
    pub(crate) values: Vec<T>,
    /// Length of the whole.
    whole: usize,
    /// Where in the whole, as a share of 2^64.
    place: u64,
}

impl<T> Window<T> {
    /// At most `most` values of `whole`.
    pub(crate) fn new(mut whole: Vec<T>, most: usize, place: u64) -> Self {
        let n_whole = whole.len();
        if n_whole > most {
            whole.drain(..start(n_whole, most, place));
            whole.truncate(most);
            whole.shrink_to_fit();
        }
        Self {
            values: whole,
            whole: n_whole,
            place,
        }
    }

    /// `n` of the values: those at the same place in the whole.
    pub(crate) fn cut(&self, n: usize) -> &[T] {
        let offset =
            start(self.whole, n, self.place) - start(self.whole, self.values.len(), self.place);
        &self.values[offset..offset + n]
    }
}

/// Where `n` of `whole` values begin: uniform over all places, as `place` is over all numbers.
fn start(whole: usize, n: usize, place: u64) -> usize {
    ((u128::from(place) * (whole - n + 1) as u128) >> 64) as usize
}

/// What the pool needs to know to work on a row.
pub(crate) struct Work {
    pub(crate) sets: Arc<Mixture>,
    pub(crate) recipe: Arc<Recipe>,
    pub(crate) mask: MaskConfig,
    pub(crate) seed: u64,
    pub(crate) limits: Limits,
    /// Whole samples with labels in place of random crops and masks.
    pub(crate) evaluate: bool,
    /// Path and label where a row has them, in place of labels that all rows must have.
    pub(crate) keyed: bool,
    pub(crate) share: DecodeShare,
    pub(crate) recorder: Arc<Recorder>,
}

impl Work {
    /// Hash, header, decode, crop, mask.
    pub(crate) fn sample(&self, task: &Task) -> Outcome {
        let sample = match &*self.recipe {
            Recipe::Image(config) => self.picture(task, config),
            Recipe::Audio {
                config,
                most_frames,
            } => self.wave(task, config, *most_frames),
            Recipe::Text {
                max_tokens,
                tokenizer,
            } => self.text(task, tokenizer, *max_tokens),
            Recipe::Tokens(info) => Ok(self.block(task, info)),
        };
        match sample {
            Ok(Ok(sample)) => Outcome::Good(sample),
            Ok(Err(bad)) => Outcome::Bad(bad),
            Err(failed) => Outcome::Failed(failed),
        }
    }

    /// What can be told without decoding: the bytes are those that were written, and what stands
    /// beside them.
    fn check<'a>(&self, task: &'a Task) -> Result<(&'a [u8], Beside), SampleError> {
        let row = task.slot.row_in_group as usize;
        let bytes = task.rows.checked(row)?;
        let beside = if self.keyed {
            Beside::Key(Key {
                path: task.rows.path(row).map(str::to_owned),
                // A label that is missing or wrong is no fault of the media.
                label: task.rows.label(row).ok().flatten(),
            })
        } else if self.evaluate {
            task.rows.label(row)?.map_or(Beside::Nothing, Beside::Label)
        } else {
            Beside::Nothing
        };
        Ok((bytes, beside))
    }

    fn key(&self, task: &Task) -> SampleKey {
        SampleKey {
            seed: self.seed,
            epoch: task.slot.epoch,
            sample: task.slot.row,
        }
    }

    /// A row's place, for messages.
    fn place(&self, task: &Task) -> String {
        let (_, shard, row) = self.sets.place(task.slot.shard as usize, task.slot.row);
        format!("row {row} of {}", shard.path)
    }
}

/// Starts the pool. Its threads end when there are no more tasks to come, or at `stop`.
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

/// Works on one task; false if nobody waits for outcomes any more.
fn run(task: Task, events: &Sender<Event>, work: &impl Fn(&Task) -> Outcome) -> bool {
    let outcome = catch_unwind(AssertUnwindSafe(|| work(&task)))
        .unwrap_or_else(|panic| Outcome::Failed(panic_error("decode", panic.as_ref())));
    let Task {
        stream_idx,
        number,
        rows,
        ..
    } = task;
    // The group must be free by the time that the event says so.
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
        fn a_shorter_window_lies_where_it_would_in_the_whole(
            whole in 1_usize..200, most in 1_usize..250, n in 1_usize..250, place: u64,
        ) {
            let most = most.min(whole);
            let n = n.min(most);
            let window = Window::new((0..whole).collect(), most, place);
            prop_assert_eq!(window.values.len(), most);
            let cut = window.cut(n);
            let direct = Window::new((0..whole).collect(), n, place);
            prop_assert_eq!(cut, direct.values.as_slice());
        }
    }

    #[test]
    fn windows_reach_both_ends() {
        let first = |place| Window::new((0..10).collect(), 4, place).values[0];
        assert_eq!((first(0), first(u64::MAX)), (0, 6));
        assert_eq!(first(1 << 63), 3);
    }
}
