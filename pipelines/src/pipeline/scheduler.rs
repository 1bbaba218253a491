//! The scheduler: it dispatches rows to the CPU pool in the order of the plan, and puts the samples
//! that come back into batches in that same order.
//!
//! Its thread blocks only to wait for the next [`Event`], and no sender of an event holds anything
//! that this thread waits for. The other channels cannot be full: tasks are limited by `n_samples`,
//! batches by `credits`.
//!
//! A sample's crop and mask depend on its row alone, not on its place in a batch. So a bad row costs
//! nothing else: the next row of its stream is dispatched, and all rows behind it move up by one. (A
//! *stream* is the rows that one lane takes from one dataset; a lane takes turns among its streams in
//! the order of the mixture.) In a plan by cost a bad row is not replaced: its lane's share of the step is one
//! sample short.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender};

use super::Event;
use super::bad_log::BadLog;
use super::collate::{Collator, Filling, Place};
use super::fetch::{Fetcher, GroupKey, Next};
use super::worker::{Outcome, Sample, Task};
use crate::batch::{Batch, SampleId};
use crate::config::StepSize;
use crate::plan::{Mix, Slot};
use crate::stats::{Recorder, WaitFor};
use crate::{Error, Result, SampleError};

/// State of the scheduler's thread.
pub(crate) struct Scheduler {
    pub(crate) fetcher: Fetcher,
    pub(crate) streams: Vec<RowQueue>,
    pub(crate) turns: Turns,
    pub(crate) collator: Collator,
    pub(crate) filling: Option<Filling>,
    /// Batches that may still be started before the trainer releases one.
    pub(crate) credits: usize,
    /// Largest number of samples that are in the pool or wait for their place in a batch.
    pub(crate) n_samples: usize,
    /// Number of samples that are in the pool or wait for their place in a batch.
    pub(crate) in_flight: usize,
    /// Streams that lost a sample to a bad row, each to be given another row before all other
    /// streams.
    pub(crate) replacing: VecDeque<usize>,
    /// Samples whose group is being read again.
    pub(crate) retries: BTreeMap<GroupKey, Vec<(usize, u64)>>,
    /// Rows known to be bad, before or after their turn.
    pub(crate) bad: BTreeSet<u64>,
    pub(crate) log: BadLog,
    pub(crate) tasks: Sender<Task>,
    pub(crate) batches: Sender<Result<Batch>>,
    pub(crate) recorder: Arc<Recorder>,
    /// Whether the end of a finite pass has been reached.
    pub(crate) ended: bool,
}

/// The rows of one stream that were dispatched and are not in a batch yet, in order.
#[derive(Default)]
pub(crate) struct RowQueue {
    rows: VecDeque<(Slot, RowState)>,
    /// Number in the stream of the first of these rows.
    first_number: u64,
}

enum RowState {
    InPool,
    /// Its group is being read again.
    Rereading,
    Good(Sample),
    Bad(SampleError),
}

impl RowState {
    /// Returns whether the row has left the pool and will not be read again.
    fn is_settled(&self) -> bool {
        matches!(self, Self::Good(_) | Self::Bad(_))
    }
}

/// The order in which rows are dispatched: lane by lane, each for its share of a step, from the datasets
/// in the order of the mixture.
pub(crate) struct Turns {
    pub(crate) mix: Mix,
    /// This rank's lanes among those of all ranks.
    pub(crate) lanes: Range<usize>,
    pub(crate) lane_share: StepSize,
    pub(crate) lane_idx: usize,
    /// Samples of the lane's share that were dispatched, in a plan by count.
    pub(crate) n_dispatched: usize,
    pub(crate) step: u64,
}

impl Turns {
    /// Returns the stream that a lane takes a sample from. In a plan by cost a lane takes all samples
    /// of a step from one stream.
    fn stream_of(
        &self,
        Place {
            lane_idx,
            step,
            n_before,
        }: Place,
    ) -> usize {
        let turn = match self.lane_share {
            StepSize::Samples(share) => step * share as u64 + n_before as u64,
            StepSize::Cost(_) => step,
        };
        let dataset = self.mix.dataset_of(self.lanes.start + lane_idx, turn);
        lane_idx * self.mix.n_datasets() + dataset
    }

    /// Returns the stream that the next row is dispatched from.
    fn stream(&self) -> usize {
        self.stream_of(Place {
            lane_idx: self.lane_idx,
            step: self.step,
            n_before: self.n_dispatched,
        })
    }

    /// Counts a dispatched sample, and goes to the next lane at the end of this lane's share.
    fn record(&mut self) {
        self.n_dispatched += 1;
        if StepSize::Samples(self.n_dispatched) == self.lane_share {
            self.next_lane();
        }
    }

    fn next_lane(&mut self) {
        self.n_dispatched = 0;
        self.lane_idx += 1;
        if self.lane_idx == self.lanes.len() {
            self.lane_idx = 0;
            self.step += 1;
        }
    }
}

impl Scheduler {
    /// Runs until the pass ends, the trainer stops it, or something fails.
    pub(crate) fn run(mut self, events: &Receiver<Event>) {
        if let Err(error) = self.run_until_end(events) {
            // The channel has room for an error; if the pipeline was dropped, nobody needs it.
            let _dropped = self.batches.send(Err(error));
        }
    }

    fn run_until_end(&mut self, events: &Receiver<Event>) -> Result<()> {
        loop {
            self.collate()?;
            if self.filling.is_none() && self.nothing_left() {
                return Ok(());
            }
            let had_ended = self.ended;
            if self.log.is_hopeless(&self.bad) {
                if self.streams.iter().all(RowQueue::is_settled) {
                    return Err(self.record_all_bad());
                }
            } else {
                self.fetcher.advance(&self.bad);
                while self.dispatch() || self.fetcher.has_changed() {
                    self.fetcher.advance(&self.bad);
                }
            }
            if self.ended && !had_ended {
                continue; // The last batch may be ready now, and no event would say so.
            }

            let waits_for = self.waits_for();
            let start = Instant::now();
            let Ok(event) = events.recv() else {
                return Ok(());
            };
            self.recorder.waited(waits_for, start.elapsed());
            let mut next = Some(event);
            while let Some(event) = next {
                if matches!(event, Event::Stop) {
                    return Ok(());
                }
                self.handle(event)?;
                next = events.try_recv().ok();
            }
        }
    }

    /// Records the bad rows whose turn has not come, and returns the error that all rows are bad.
    fn record_all_bad(&mut self) -> Error {
        for (slot, state) in self
            .streams
            .iter_mut()
            .flat_map(|stream| stream.rows.drain(..))
        {
            if let RowState::Bad(error) = state
                && let Err(error) = self.log.add(&slot, &error, &self.recorder)
            {
                return error;
            }
        }
        self.log.none_left()
    }

    fn handle(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Group { key, result } => {
                self.fetcher.arrived(key, result?);
                for (stream_idx, number) in self.retries.remove(&key).unwrap_or_default() {
                    let (slot, state) = self.streams[stream_idx].row(number);
                    *state = RowState::InPool;
                    let (slot, rows) = (*slot, self.fetcher.retry(key));
                    self.send(Task {
                        stream_idx,
                        number,
                        slot,
                        rows,
                    });
                }
            }
            Event::Sample {
                stream_idx,
                number,
                outcome,
            } => self.settle(stream_idx, number, outcome)?,
            Event::Released => self.credits += 1,
            Event::Stop => unreachable!("handled where events are received"),
        }
        Ok(())
    }

    /// Handles a sample that has left the pool.
    fn settle(&mut self, stream_idx: usize, number: u64, outcome: Outcome) -> Result<()> {
        let (slot, state) = self.streams[stream_idx].row(number);
        let slot = *slot;
        let key = (slot.shard, slot.group);
        match outcome {
            Outcome::Failed(error) => return Err(error),
            Outcome::Good(sample) => *state = RowState::Good(sample),
            Outcome::Bad(SampleError::Hash { .. }) if self.fetcher.read_again(key) => {
                *state = RowState::Rereading;
                self.retries
                    .entry(key)
                    .or_default()
                    .push((stream_idx, number));
                self.fetcher.left_pool(key);
                return Ok(());
            }
            Outcome::Bad(error) => {
                *state = RowState::Bad(error);
                self.bad.insert(slot.row);
                self.in_flight -= 1;
                self.recorder.in_flight.change(-1);
                if let StepSize::Samples(_) = self.turns.lane_share {
                    self.replacing.push_back(stream_idx);
                }
            }
        }
        self.fetcher.left_pool(key);
        self.fetcher.done(stream_idx, key);
        Ok(())
    }

    /// Dispatches one row to the pool, if there is room for one and its group is held; returns whether
    /// it did.
    fn dispatch(&mut self) -> bool {
        if self.in_flight == self.n_samples || self.ended {
            return false;
        }
        if let StepSize::Cost(_) = self.turns.lane_share {
            // A lane may have no row left in this step.
            while self.starts_after(self.turns.stream(), self.turns.step) {
                self.turns.next_lane();
            }
        }
        let replacing = self.replacing.front().copied();
        let stream_idx = replacing.unwrap_or_else(|| self.turns.stream());
        let (slot, rows) = match self.fetcher.next(stream_idx, &self.bad) {
            Next::Slot(slot, rows) => (slot, rows),
            Next::Wait => return false,
            Next::End => {
                self.ended = true;
                return false;
            }
        };
        if self.replacing.pop_front().is_none() {
            self.turns.record();
        }
        self.in_flight += 1;
        self.recorder.in_flight.change(1);
        let stream = &mut self.streams[stream_idx];
        let number = stream.first_number + stream.rows.len() as u64;
        stream.rows.push_back((slot, RowState::InPool));
        self.send(Task {
            stream_idx,
            number,
            slot,
            rows,
        });
        true
    }

    /// Returns whether all rows that a stream has not dispatched belong to steps after `step`, in a plan
    /// by cost.
    fn starts_after(&mut self, stream_idx: usize, step: u64) -> bool {
        let next = self.fetcher.next_step(stream_idx, &self.bad);
        next.is_some_and(|next| next > step)
    }

    fn send(&self, task: Task) {
        // The pool outlives the loop of this thread: its threads end when this sender is dropped.
        let sent = self.tasks.send(task);
        assert!(sent.is_ok(), "the CPU pool has ended before its tasks");
    }

    /// Moves all samples whose turn has come into batches, and sends the batches that are full.
    fn collate(&mut self) -> Result<()> {
        loop {
            let Some(mut filling) = self.filling.take() else {
                if self.credits == 0 {
                    return Ok(());
                }
                self.credits -= 1;
                self.filling = Some(self.collator.begin());
                continue;
            };
            let complete = self.fill(&mut filling)?;
            // The last batch of a pass may be short.
            let last = self.nothing_left();
            if complete || last && !filling.is_empty() {
                let (batch, n_held) = self.collator.finish(filling, &self.recorder);
                self.release(n_held);
                self.recorder.batches.fetch_add(1, Relaxed);
                self.recorder.ready.change(1);
                // If the pipeline was dropped, `Event::Stop` will arrive.
                let _dropped = self.batches.send(Ok(batch));
            } else if !last {
                self.filling = Some(filling);
                return Ok(());
            }
            if last {
                return Ok(());
            }
        }
    }

    /// Returns whether the pass has ended and all its samples are in batches.
    fn nothing_left(&self) -> bool {
        self.ended && self.streams.iter().all(|stream| stream.rows.is_empty())
    }

    /// Moves samples into a batch until it is full or the next sample is not ready; returns whether it is
    /// full.
    fn fill(&mut self, filling: &mut Filling) -> Result<bool> {
        while let Some(place) = filling.next() {
            let stream_idx = self.turns.stream_of(place);
            if let StepSize::Cost(_) = self.turns.lane_share {
                let is_over = match self.streams[stream_idx].rows.front() {
                    Some((slot, _)) => slot.step > place.step,
                    None => {
                        !self.log.is_hopeless(&self.bad)
                            && self.starts_after(stream_idx, place.step)
                    }
                };
                if is_over {
                    return Ok(true);
                }
            }
            let stream = &mut self.streams[stream_idx];
            if !stream.is_front_settled() {
                return Ok(false);
            }
            let Some((slot, state)) = stream.rows.pop_front() else {
                return Ok(false);
            };
            stream.first_number += 1;
            match state {
                RowState::Good(sample) => {
                    let id = SampleId {
                        epoch: slot.epoch,
                        row: slot.row,
                    };
                    if filling.push(id, sample) {
                        self.release(1);
                    }
                    self.recorder.samples.fetch_add(1, Relaxed);
                }
                RowState::Bad(error) => self.log.add(&slot, &error, &self.recorder)?,
                RowState::InPool | RowState::Rereading => unreachable!("a settled row"),
            }
        }
        Ok(true)
    }

    /// Frees the memory share of samples that were moved into a batch.
    fn release(&mut self, n_samples: usize) {
        self.in_flight -= n_samples;
        self.recorder.in_flight.change(-(n_samples as i64));
    }

    /// Returns what the next batch is waiting for.
    fn waits_for(&self) -> WaitFor {
        let Some(place) = self.filling.as_ref().and_then(Filling::next) else {
            return WaitFor::Trainer;
        };
        match self.streams[self.turns.stream_of(place)].rows.front() {
            Some((_, RowState::Rereading)) => WaitFor::Storage,
            None if self.in_flight < self.n_samples => WaitFor::Storage,
            _ => WaitFor::Cpu,
        }
    }
}

impl RowQueue {
    /// Returns whether the first row has left the pool.
    fn is_front_settled(&self) -> bool {
        self.rows
            .front()
            .is_some_and(|(_, state)| state.is_settled())
    }

    /// Returns whether all rows have left the pool.
    fn is_settled(&self) -> bool {
        self.rows.iter().all(|(_, state)| state.is_settled())
    }

    fn row(&mut self, number: u64) -> &mut (Slot, RowState) {
        &mut self.rows[(number - self.first_number) as usize]
    }
}
