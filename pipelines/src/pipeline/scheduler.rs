//! The thread that keeps the order: it hands rows to the CPU pool in the order of the plan, and
//! puts what comes back into batches in that same order.
//!
//! It never blocks except to wait for the next [`Event`], and whoever sends one never holds what
//! it waits for. The other channels cannot be full: tasks are limited by `n_samples`, batches by
//! `credits`.
//!
//! A sample's crop and mask depend on its row alone, not on its place. So a bad row costs nothing
//! but itself: its stream's next row is handed out, and all behind it move up by one. (A *stream* is
//! what one lane takes of one set; the lane's turns go around its streams as the mix says.) In a plan
//! by cost nothing stands in for it: its lane's share of the step is one sample short.

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

/// State of the order thread.
pub(crate) struct Order {
    pub(crate) fetcher: Fetcher,
    pub(crate) streams: Vec<Stream>,
    pub(crate) turns: Turns,
    pub(crate) collator: Collator,
    pub(crate) filling: Option<Filling>,
    /// Batches that may still be begun before the trainer gives one up.
    pub(crate) credits: usize,
    /// Samples that may be with the pool or wait for their place, and those that are.
    pub(crate) n_samples: usize,
    pub(crate) in_flight: usize,
    /// Streams that lost a sample to a bad row: they come before all others, and keep its place
    /// among the samples in flight.
    pub(crate) replacing: VecDeque<usize>,
    /// Samples whose group is being read again.
    pub(crate) retries: BTreeMap<GroupKey, Vec<(usize, u64)>>,
    /// Rows known to be bad, whether their turn has come or not.
    pub(crate) bad: BTreeSet<u64>,
    pub(crate) log: BadLog,
    pub(crate) tasks: Sender<Task>,
    pub(crate) batches: Sender<Result<Batch>>,
    pub(crate) recorder: Arc<Recorder>,
    /// The pass has an end, and it has been reached.
    pub(crate) ended: bool,
}

/// The rows of one stream that were handed out and have not been put into a batch.
#[derive(Default)]
pub(crate) struct Stream {
    rows: VecDeque<(Slot, State)>,
    /// Number of the first of them.
    first_number: u64,
}

enum State {
    Running,
    /// Its group is being read again.
    Rereading,
    Good(Sample),
    Bad(SampleError),
}

impl State {
    /// Whether the row has left the pool for good.
    fn is_settled(&self) -> bool {
        matches!(self, Self::Good(_) | Self::Bad(_))
    }
}

/// Whose turn it is: each lane in turn, for its share of a step, from the sets as the mix says.
pub(crate) struct Turns {
    pub(crate) mix: Mix,
    /// This rank's lanes, among all.
    pub(crate) lanes: Range<usize>,
    pub(crate) lane_share: StepSize,
    pub(crate) lane_idx: usize,
    /// Samples that the lane has had of its share, in a plan by count.
    pub(crate) n_taken: usize,
    pub(crate) step: u64,
}

impl Turns {
    /// The stream that one of this rank's lanes takes a unit from: a sample of its share of a step,
    /// or in a plan by cost all of it.
    fn stream_of(
        &self,
        Place {
            lane_idx,
            step,
            n_before,
        }: Place,
    ) -> usize {
        let unit = match self.lane_share {
            StepSize::Samples(share) => step * share as u64 + n_before as u64,
            StepSize::Cost(_) => step,
        };
        let set = self.mix.dataset_of(self.lanes.start + lane_idx, unit);
        lane_idx * self.mix.n_datasets() + set
    }

    /// The stream whose turn it is.
    fn stream(&self) -> usize {
        self.stream_of(Place {
            lane_idx: self.lane_idx,
            step: self.step,
            n_before: self.n_taken,
        })
    }

    /// A sample of the lane's share was handed out.
    fn took(&mut self) {
        self.n_taken += 1;
        if StepSize::Samples(self.n_taken) == self.lane_share {
            self.next_lane();
        }
    }

    fn next_lane(&mut self) {
        self.n_taken = 0;
        self.lane_idx += 1;
        if self.lane_idx == self.lanes.len() {
            self.lane_idx = 0;
            self.step += 1;
        }
    }
}

impl Order {
    /// Runs until the pass ends, the trainer stops it, or something fails.
    pub(crate) fn run(mut self, events: &Receiver<Event>) {
        if let Err(error) = self.conduct(events) {
            // There is room for it; if nobody listens any more, nobody wants it.
            let _nobody_listens = self.batches.send(Err(error));
        }
    }

    fn conduct(&mut self, events: &Receiver<Event>) -> Result<()> {
        loop {
            self.collate()?;
            if self.filling.is_none() && self.nothing_left() {
                return Ok(());
            }
            let had_ended = self.ended;
            if self.log.is_hopeless(&self.bad) {
                if self.streams.iter().all(Stream::is_settled) {
                    return Err(self.give_up());
                }
            } else {
                self.fetcher.advance(&self.bad);
                while self.hand_out() || self.fetcher.has_changed() {
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
                self.take(event)?;
                next = events.try_recv().ok();
            }
        }
    }

    /// All rows of a set are bad: they are noted, whether their turn has come or not.
    fn give_up(&mut self) -> Error {
        for (slot, state) in self
            .streams
            .iter_mut()
            .flat_map(|stream| stream.rows.drain(..))
        {
            if let State::Bad(error) = state
                && let Err(error) = self.log.add(&slot, &error, &self.recorder)
            {
                return error;
            }
        }
        self.log.none_left()
    }

    fn take(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Group { key, result } => {
                self.fetcher.arrived(key, result?);
                for (stream_idx, number) in self.retries.remove(&key).unwrap_or_default() {
                    let (slot, state) = self.streams[stream_idx].row(number);
                    *state = State::Running;
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
            Event::Returned => self.credits += 1,
            Event::Stop => unreachable!("handled where events are received"),
        }
        Ok(())
    }

    /// A sample has left the pool.
    fn settle(&mut self, stream_idx: usize, number: u64, outcome: Outcome) -> Result<()> {
        let (slot, state) = self.streams[stream_idx].row(number);
        let slot = *slot;
        let key = (slot.shard, slot.group);
        match outcome {
            Outcome::Failed(error) => return Err(error),
            Outcome::Good(sample) => *state = State::Good(sample),
            Outcome::Bad(SampleError::Hash { .. }) if self.fetcher.read_again(key) => {
                *state = State::Rereading;
                self.retries
                    .entry(key)
                    .or_default()
                    .push((stream_idx, number));
                self.fetcher.ran(key);
                return Ok(());
            }
            Outcome::Bad(error) => {
                *state = State::Bad(error);
                self.bad.insert(slot.row);
                self.in_flight -= 1;
                self.recorder.in_flight.change(-1);
                if let StepSize::Samples(_) = self.turns.lane_share {
                    self.replacing.push_back(stream_idx);
                }
            }
        }
        self.fetcher.ran(key);
        self.fetcher.done(stream_idx, key);
        Ok(())
    }

    /// Hands one row to the pool, if there is room for one and its group is there.
    fn hand_out(&mut self) -> bool {
        if self.in_flight == self.n_samples || self.ended {
            return false;
        }
        if let StepSize::Cost(_) = self.turns.lane_share {
            // A lane may have nothing left of a step: then the next one has its turn.
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
            self.turns.took();
        }
        self.in_flight += 1;
        self.recorder.in_flight.change(1);
        let stream = &mut self.streams[stream_idx];
        let number = stream.first_number + stream.rows.len() as u64;
        stream.rows.push_back((slot, State::Running));
        self.send(Task {
            stream_idx,
            number,
            slot,
            rows,
        });
        true
    }

    /// Whether all that a stream has not handed out yet belongs to later steps, in a plan by cost.
    fn starts_after(&mut self, stream_idx: usize, step: u64) -> bool {
        let next = self.fetcher.next_step(stream_idx, &self.bad);
        next.is_some_and(|next| next > step)
    }

    fn send(&self, task: Task) {
        // The pool outlives this thread's loop: its threads end when this sender is dropped.
        let sent = self.tasks.send(task);
        assert!(sent.is_ok(), "the CPU pool has ended before its tasks");
    }

    /// Puts into batches all samples whose turn has come.
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
            // The last batch of a pass is as long as it gets; nothing comes after it.
            let last = self.nothing_left();
            if complete || last && !filling.is_empty() {
                let (batch, n_held) = self.collator.finish(filling, &self.recorder);
                self.let_go(n_held);
                self.recorder.batches.fetch_add(1, Relaxed);
                self.recorder.ready.change(1);
                // If nobody listens any more, `Event::Stop` is on its way.
                let _nobody_listens = self.batches.send(Ok(batch));
            } else if !last {
                self.filling = Some(filling);
                return Ok(());
            }
            if last {
                return Ok(());
            }
        }
    }

    /// The pass has ended and all its samples are in batches.
    fn nothing_left(&self) -> bool {
        self.ended && self.streams.iter().all(|stream| stream.rows.is_empty())
    }

    /// Moves samples into a batch until it is full or the next sample is not there yet.
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
                State::Good(sample) => {
                    let id = SampleId {
                        epoch: slot.epoch,
                        row: slot.row,
                    };
                    if filling.push(id, sample) {
                        self.let_go(1);
                    }
                    self.recorder.samples.fetch_add(1, Relaxed);
                }
                State::Bad(error) => self.log.add(&slot, &error, &self.recorder)?,
                State::Running | State::Rereading => unreachable!("a settled row"),
            }
        }
        Ok(true)
    }

    /// So many samples are in a batch now.
    fn let_go(&mut self, n_samples: usize) {
        self.in_flight -= n_samples;
        self.recorder.in_flight.change(-(n_samples as i64));
    }

    /// What the next batch is waiting for.
    fn waits_for(&self) -> WaitFor {
        let Some(place) = self.filling.as_ref().and_then(Filling::next) else {
            return WaitFor::Trainer;
        };
        match self.streams[self.turns.stream_of(place)].rows.front() {
            Some((_, State::Rereading)) => WaitFor::Storage,
            None if self.in_flight < self.n_samples => WaitFor::Storage,
            _ => WaitFor::Cpu,
        }
    }
}

impl Stream {
    /// Whether the first row has left the pool.
    fn is_front_settled(&self) -> bool {
        self.rows
            .front()
            .is_some_and(|(_, state)| state.is_settled())
    }

    /// Whether all rows have.
    fn is_settled(&self) -> bool {
        self.rows.iter().all(|(_, state)| state.is_settled())
    }

    fn row(&mut self, number: u64) -> &mut (Slot, State) {
        &mut self.rows[(number - self.first_number) as usize]
    }
}
