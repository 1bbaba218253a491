//! Row groups: which to hold, when to read them, when to let go.
//!
//! What one lane takes of one set is a *stream*, which walks from window to window. Its current
//! window and the next one are loaded; their row groups are read in the order of first use and let
//! go as soon as their last row is done. Streams that use the same group share one copy.
//!
//! # Why this cannot get stuck
//!
//! A group is read only if, after it, what is left of the share still lets every stream go on to
//! hold one largest window (the banker's rule): `held + claims ≤ share`, where a stream's claim is
//! what it lacks of a largest window. At the start that holds, because `held` is 0 and
//! [`Shares::divide`](crate::budget::Shares::divide) made the share that large. A stream that needs
//! a group of its current window holds nothing else once its running samples are done, and they
//! end by themselves; so that group lies within its claim and can always be had. Groups that
//! several streams share are counted once for each, which errs on the safe side.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use crossbeam_channel::Sender;
use futures::FutureExt;
use tokio::sync::Semaphore;

use super::{Event, panic_error};
use crate::plan::Slot;
use crate::shard::{Mixture, Rows};
use crate::stats::Recorder;

/// Reads of a disk under way at once.
const MAX_LOCAL_READS: usize = 8;
/// Reads of a store under way at once, as far as memory goes; `store/wire.rs` sends fewer where the
/// store does not keep up.
const MAX_STORE_READS: usize = 64;

/// A row group: number of the shard, number in the shard.
pub(crate) type GroupKey = (u32, u32);

/// The slots of one window after another.
pub(crate) type Windows = Box<dyn Iterator<Item = Vec<Slot>> + Send>;

/// What one lane takes of one set.
pub(crate) struct Source {
    pub(crate) windows: Windows,
    /// The most that the row groups of one window take.
    pub(crate) largest_window_bytes: u64,
}

/// What a stream has for the CPU pool.
pub(crate) enum Next {
    /// The next row, and the group that it lies in.
    Slot(Slot, Arc<Rows>),
    /// Its group is not there yet.
    Wait,
    /// There are no more.
    End,
}

/// The row groups of all the streams of a rank.
pub(crate) struct Fetcher {
    share_bytes: u64,
    streams: Vec<Stream>,
    groups: BTreeMap<GroupKey, Group>,
    reader: Reader,
    /// Something changed that may let a stream load or read more.
    changed: bool,
}

struct Stream {
    source: Source,
    /// Loaded and not yet handed out.
    slots: VecDeque<Slot>,
    last_window_len: usize,
    /// Groups of `slots` that are not held yet, in the order of first use.
    wanted: VecDeque<GroupKey>,
    /// Rows that are not done, by group.
    open: BTreeMap<GroupKey, usize>,
    held_bytes: u64,
    ended: bool,
}

struct Group {
    rows: State,
    /// Streams that hold it.
    n_streams: usize,
    /// Samples of it with the CPU pool.
    n_running: usize,
    read_again: bool,
}

enum State {
    Reading,
    Ready(Arc<Rows>),
    /// To be read again once nobody uses this copy.
    Stale,
}

impl Fetcher {
    pub(crate) fn new(sources: Vec<Source>, share_bytes: u64, reader: Reader) -> Self {
        let streams = sources.into_iter().map(Stream::new).collect();
        let groups = BTreeMap::new();
        Self {
            share_bytes,
            streams,
            groups,
            reader,
            changed: true,
        }
    }

    /// Hands out the next row of a stream, stepping over those known to be bad.
    pub(crate) fn next(&mut self, stream_idx: usize, bad: &BTreeSet<u64>) -> Next {
        loop {
            let stream = &mut self.streams[stream_idx];
            let Some(&slot) = stream.slots.front() else {
                return if stream.ended { Next::End } else { Next::Wait };
            };
            let key = (slot.shard, slot.group);
            if bad.contains(&slot.row) {
                // Its group may not be held yet; then it is not wanted for this row any more.
                stream.take_front(&mut self.changed);
                self.done(stream_idx, key);
                continue;
            }
            if stream.wanted.contains(&key) {
                return Next::Wait;
            }
            let group = self
                .groups
                .get_mut(&key)
                .expect("a stream's group that is not wanted is held");
            let State::Ready(rows) = &group.rows else {
                return Next::Wait;
            };
            let rows = Arc::clone(rows);
            group.n_running += 1;
            stream.take_front(&mut self.changed);
            return Next::Slot(slot, rows);
        }
    }

    /// The step of the next row that is not known to be bad, in a plan by cost; `None` at the end.
    pub(crate) fn next_step(&mut self, stream_idx: usize, bad: &BTreeSet<u64>) -> Option<u64> {
        loop {
            let stream = &mut self.streams[stream_idx];
            let n_before = stream.slots.len();
            stream.load(bad);
            self.changed |= stream.slots.len() > n_before;
            let slot = *stream.slots.front()?;
            if !bad.contains(&slot.row) {
                return Some(slot.step);
            }
            stream.take_front(&mut self.changed);
            self.done(stream_idx, (slot.shard, slot.group));
        }
    }

    /// A sample has left the CPU pool; its row may be tried again.
    pub(crate) fn ran(&mut self, key: GroupKey) {
        let group = self
            .groups
            .get_mut(&key)
            .expect("the group of a running sample is held");
        group.n_running -= 1;
        if group.n_running == 0 && matches!(group.rows, State::Stale) {
            group.rows = State::Reading;
            self.reader.start(key, true);
        }
    }

    /// A stream is through with a row; with the last one of a group the stream lets go of it.
    pub(crate) fn done(&mut self, stream_idx: usize, key: GroupKey) {
        let stream = &mut self.streams[stream_idx];
        let open = stream
            .open
            .get_mut(&key)
            .expect("a row that was loaded is open");
        *open -= 1;
        if *open > 0 {
            return;
        }
        stream.open.remove(&key);
        self.changed = true;
        if let Some(position) = stream.wanted.iter().position(|wanted| *wanted == key) {
            stream.wanted.remove(position);
            return;
        }
        stream.held_bytes -= self.reader.group_bytes(key);
        let group = self
            .groups
            .get_mut(&key)
            .expect("a stream's group that is not wanted is held");
        group.n_streams -= 1;
        if group.n_streams == 0 && !matches!(group.rows, State::Reading) {
            self.groups.remove(&key);
        }
    }

    /// A row's bytes are not those that were written: read its group once more.
    ///
    /// False if that was done already: then the fault is in the shard.
    pub(crate) fn read_again(&mut self, key: GroupKey) -> bool {
        let group = self
            .groups
            .get_mut(&key)
            .expect("the group of an open row is held");
        match group.rows {
            State::Stale | State::Reading => true,
            State::Ready(_) if group.read_again => false,
            State::Ready(_) => {
                group.read_again = true;
                group.rows = State::Stale;
                true
            }
        }
    }

    /// A read has ended.
    pub(crate) fn arrived(&mut self, key: GroupKey, rows: Arc<Rows>) {
        let group = self
            .groups
            .get_mut(&key)
            .expect("a group stays until its read has ended");
        if group.n_streams == 0 {
            // All its rows turned out bad while it was read.
            self.groups.remove(&key);
        } else {
            group.rows = State::Ready(rows);
        }
    }

    /// The rows of a group that was read again, for the samples that wait for it.
    pub(crate) fn retry(&mut self, key: GroupKey) -> Arc<Rows> {
        let group = self
            .groups
            .get_mut(&key)
            .expect("the group of an open row is held");
        let State::Ready(rows) = &group.rows else {
            unreachable!("asked for when the group arrived");
        };
        group.n_running += 1;
        Arc::clone(rows)
    }

    /// Whether [`Fetcher::advance`] may find something to do.
    pub(crate) fn has_changed(&self) -> bool {
        self.changed
    }

    /// Loads windows and starts reads as far as the share allows.
    pub(crate) fn advance(&mut self, bad: &BTreeSet<u64>) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        let mut full = false;
        loop {
            let mut started = false;
            for stream_idx in 0..self.streams.len() {
                self.streams[stream_idx].load(bad);
                let Some(&key) = self.streams[stream_idx].wanted.front() else {
                    continue;
                };
                if self.may_hold(stream_idx, self.reader.group_bytes(key)) {
                    self.hold(stream_idx, key);
                    started = true;
                } else {
                    full = true;
                }
            }
            if !started {
                break;
            }
        }
        let held_bytes = self
            .groups
            .keys()
            .map(|&key| self.reader.group_bytes(key))
            .sum();
        self.reader.recorder.groups.set(held_bytes, full);
    }

    /// The banker's rule of the module's documentation.
    fn may_hold(&self, stream_idx: usize, bytes: u64) -> bool {
        let held_and_claimed: u64 = self
            .streams
            .iter()
            .enumerate()
            .map(|(idx, stream)| {
                let held_bytes = stream.held_bytes + if idx == stream_idx { bytes } else { 0 };
                held_bytes.max(stream.source.largest_window_bytes)
            })
            .sum();
        held_and_claimed <= self.share_bytes
    }

    fn hold(&mut self, stream_idx: usize, key: GroupKey) {
        let stream = &mut self.streams[stream_idx];
        stream.wanted.pop_front();
        stream.held_bytes += self.reader.group_bytes(key);
        let reader = &self.reader;
        let group = self.groups.entry(key).or_insert_with(|| {
            reader.start(key, false);
            Group {
                rows: State::Reading,
                n_streams: 0,
                n_running: 0,
                read_again: false,
            }
        });
        group.n_streams += 1;
    }
}

impl Stream {
    fn new(source: Source) -> Self {
        Self {
            source,
            slots: VecDeque::new(),
            last_window_len: 0,
            wanted: VecDeque::new(),
            open: BTreeMap::new(),
            held_bytes: 0,
            ended: false,
        }
    }

    /// Loads the next window once the last one loaded is in use.
    fn load(&mut self, bad: &BTreeSet<u64>) {
        while !self.ended && self.slots.len() <= self.last_window_len {
            let Some(window) = self.source.windows.next() else {
                self.ended = true;
                return;
            };
            let n_before = self.slots.len();
            for slot in window {
                if bad.contains(&slot.row) {
                    continue;
                }
                let key = (slot.shard, slot.group);
                let open = self.open.entry(key).or_insert(0);
                if *open == 0 {
                    self.wanted.push_back(key);
                }
                *open += 1;
                self.slots.push_back(slot);
            }
            self.last_window_len = self.slots.len() - n_before;
        }
    }

    fn take_front(&mut self, changed: &mut bool) {
        self.slots.pop_front();
        *changed |= self.slots.len() == self.last_window_len || self.slots.is_empty();
    }
}

/// Starts reads on the I/O threads; they end as [`Event::Group`].
pub(crate) struct Reader {
    pub(crate) sets: Arc<Mixture>,
    pub(crate) runtime: tokio::runtime::Handle,
    pub(crate) events: Sender<Event>,
    pub(crate) recorder: Arc<Recorder>,
    permits: Arc<Semaphore>,
}

impl Reader {
    pub(crate) fn new(
        sets: Arc<Mixture>,
        runtime: tokio::runtime::Handle,
        events: Sender<Event>,
        recorder: Arc<Recorder>,
    ) -> Self {
        let is_local = sets
            .datasets()
            .iter()
            .all(|set| set.location.local.is_some());
        let max_reads = if is_local {
            MAX_LOCAL_READS
        } else {
            MAX_STORE_READS
        };
        let permits = Arc::new(Semaphore::new(max_reads));
        Self {
            sets,
            runtime,
            events,
            recorder,
            permits,
        }
    }

    /// What holding a group takes, and reading it.
    fn group_bytes(&self, (shard, group): GroupKey) -> u64 {
        self.sets.shard(shard as usize).groups[group as usize].memory
    }

    fn start(&self, key: GroupKey, again: bool) {
        let (sets, events) = (Arc::clone(&self.sets), self.events.clone());
        let (recorder, permits) = (Arc::clone(&self.recorder), Arc::clone(&self.permits));
        let bytes = self.group_bytes(key);
        self.runtime.spawn(async move {
            let Ok(_permit) = permits.acquire().await else {
                return; // Never closed.
            };
            recorder.reads.change(1);
            let start = Instant::now();
            let (shard, group) = (key.0 as usize, key.1 as usize);
            let read = std::panic::AssertUnwindSafe(sets.read_group(shard, group, again));
            let result = match read.catch_unwind().await {
                Ok(result) => result.map(Arc::new),
                Err(panic) => Err(panic_error("read", panic.as_ref())),
            };
            recorder.read.record(start.elapsed(), result.is_err());
            recorder.reads.change(-1);
            recorder.bytes_read.fetch_add(bytes, Relaxed);
            // The order thread takes events until it ends, so this waits for it only for a moment.
            let _ended = events.send(Event::Group { key, result });
        });
    }
}
