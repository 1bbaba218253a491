//! The CPU pool: one row's bytes become one sample.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender};
use xxhash_rust::xxh3::xxh3_64;

use super::{Event, io_error, panic_error};
use crate::budget::DecodeShare;
use crate::config::DataConfig;
use crate::plan::Slot;
use crate::rng::SampleKey;
use crate::shard::{ImageRows, ShardSet};
use crate::stats::Recorder;
use crate::{Error, Result, SampleError, decode, transform};

/// One row to work on. Tasks do not depend on each other.
pub(crate) struct Task {
    /// The lane, and the number of the row in it: where the outcome belongs.
    pub(crate) lane_idx: usize,
    pub(crate) number: u64,
    pub(crate) slot: Slot,
    pub(crate) rows: Arc<ImageRows>,
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
    /// `[size, size, 3]`.
    pub(crate) pixels: Vec<u8>,
    /// `[n_masks, n_patches]`; empty in evaluation.
    pub(crate) masks: Vec<u8>,
    /// Of a labelled set in evaluation.
    pub(crate) label: Option<i64>,
}

/// What the pool needs to know to work on a row.
pub(crate) struct Work {
    pub(crate) set: Arc<ShardSet>,
    pub(crate) config: DataConfig,
    /// Centre crops and labels in place of random crops and masks.
    pub(crate) evaluate: bool,
    pub(crate) share: DecodeShare,
    pub(crate) recorder: Arc<Recorder>,
}

impl Work {
    /// Hash, header, decode, crop, mask.
    pub(crate) fn sample(&self, task: &Task) -> Outcome {
        match self.try_sample(task) {
            Ok(Ok(sample)) => Outcome::Good(sample),
            Ok(Err(bad)) => Outcome::Bad(bad),
            Err(failed) => Outcome::Failed(failed),
        }
    }

    fn try_sample(&self, task: &Task) -> Result<Result<Sample, SampleError>> {
        let start = Instant::now();
        let checked = self.check(task);
        let (bytes, label, header) = match checked {
            Ok(checked) => checked,
            Err(bad) => {
                self.recorder.decode.record(start.elapsed(), true);
                return Ok(Err(bad));
            }
        };
        let checking = start.elapsed();

        let image = &self.config.image;
        let bytes_needed = header.decode_bytes.max(self.transform_bytes(&header));
        let _taken = self.share.take(bytes_needed, || {
            let Slot { row, shard, .. } = task.slot;
            let shard = &self.set.shards[shard as usize];
            let (width, height) = (header.width, header.height);
            let row = row - shard.first_row;
            format!(
                "decoding the {width}×{height} picture in row {row} of {}",
                shard.path
            )
        })?;
        let start = Instant::now();
        let decoded = decode::decode_image(bytes, &self.config.limits);
        self.recorder
            .decode
            .record(checking + start.elapsed(), decoded.is_err());
        let picture = match decoded {
            Ok(picture) => picture,
            Err(bad) => return Ok(Err(bad)),
        };

        let key = SampleKey {
            seed: self.config.seed,
            epoch: task.slot.epoch,
            sample: task.slot.row,
        };
        let start = Instant::now();
        let pixels = if self.evaluate {
            transform::eval_crop(&picture, image)
        } else {
            transform::train_crop(&picture, image, key)
        };
        self.recorder.transform.record(start.elapsed(), false);

        let mut masks = Vec::new();
        if !self.evaluate {
            let start = Instant::now();
            masks.resize(self.config.mask.n_masks() * self.config.mask.n_patches(), 0);
            self.config.mask.draw(key, &mut masks);
            self.recorder.mask.record(start.elapsed(), false);
        }
        Ok(Ok(Sample {
            pixels,
            masks,
            label,
        }))
    }

    /// The decoded picture and what is made on the way to its crop, at most.
    fn transform_bytes(&self, header: &decode::Header) -> u64 {
        let image = &self.config.image;
        let (width, height) = (u64::from(header.width), u64::from(header.height));
        let (between, result) = if self.evaluate {
            // The short side becomes `eval_resize`; strips are cut at sixteen times that.
            let side = u64::from(image.eval_resize);
            let longer = |long: u64, short: u64| side * long.min(16 * short) / short;
            let resized_width = if width <= height {
                side
            } else {
                longer(width, height)
            };
            (
                resized_width * height,
                side * longer(width.max(height), width.min(height)),
            )
        } else {
            // Colour jitter copies the window; then the horizontal pass keeps the window's height.
            let jittered = if image.color_jitter > 0.0 {
                width * height
            } else {
                0
            };
            (
                jittered + u64::from(image.size) * height,
                u64::from(image.size).pow(2),
            )
        };
        3 * (width * height + between + result)
    }

    /// What can be told without decoding: nothing that fails here is ever decoded.
    fn check<'a>(
        &self,
        task: &'a Task,
    ) -> Result<(&'a [u8], Option<i64>, decode::Header), SampleError> {
        let row = task.slot.row_in_group as usize;
        let bytes = task.rows.bytes(row).filter(|bytes| !bytes.is_empty());
        let bytes = bytes.ok_or(SampleError::Empty)?;
        if let Some(expected) = task.rows.xxh3(row) {
            let found = xxh3_64(bytes);
            if found != expected {
                return Err(SampleError::Hash { expected, found });
            }
        }
        let label = if self.evaluate {
            task.rows.label(row)?
        } else {
            None
        };
        let header = decode::read_header(bytes, &self.config.limits)?;
        Ok((bytes, label, header))
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
        lane_idx,
        number,
        rows,
        ..
    } = task;
    // The group must be free by the time that the event says so.
    drop(rows);
    let event = Event::Sample {
        lane_idx,
        number,
        outcome,
    };
    events.send(event).is_ok()
}
