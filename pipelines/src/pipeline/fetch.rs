//! Row groups: decides which to hold, when to read them and when to drop them.
//!
//! The rows that one lane takes from one dataset are a *stream*, which walks from window to window.
//! Its current window and the next one are loaded; their row groups are read in the order of first use
//! and dropped as soon as their last row is done. Streams that use the same group share one copy.
//!
//! # Why this cannot get stuck
//!
//! A group is read only if the rest of the share still lets every stream hold one largest window
//! (the banker's rule): `held + claims ≤ share`, where a stream's claim is the difference between its
//! largest window and what it holds. At the start that holds, because `held` is 0 and
//! [`Shares::divide`](crate::budget::Shares::divide) made the share that large. A stream that needs
//! a group of its current window holds nothing else once its running samples are done, and they
//! end by themselves; so that group is within its claim and can always be read. Groups that
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

/// Maximum number of concurrent reads of a disk.
const MAX_LOCAL_READS: usize = 8;
/// Maximum number of concurrent reads of a store, if memory allows; `store/concurrency.rs` sends fewer
/// requests if the store does not keep up.
const MAX_STORE_READS: usize = 64;

/// Identifies a row group: number of the shard, number in the shard.
pub(crate) type GroupKey = (u32, u32);

/// The slots of one window after another.
pub(crate) type Windows = Box<dyn Iterator<Item = Vec<Slot>> + Send>;

/// The windows that one lane takes from one dataset.
pub(crate) struct StreamSource {
    pub(crate) windows: Windows,
    /// Most bytes that the row groups of one window take.
    pub(crate) largest_window_bytes: u64,
}

/// The answer to a request for a stream's next row.
pub(crate) enum Next {
    /// The next row, and the group that holds it.
    Slot(Slot, Arc<Rows>),
    /// The group of the next row is not read yet.
    Wait,
    /// The stream has no more rows.
    End,
}

/// The row groups of all the streams of a rank.
pub(crate) struct Fetcher {
    share_bytes: u64,
    streams: Vec<Stream>,
    groups: BTreeMap<GroupKey, HeldGroup>,
    reader: Reader,
    /// Whether something changed that may let a stream load or read more.
    changed: bool,
}

struct Stream {
    source: StreamSource,
    /// Loaded and not yet dispatched.
    slots: VecDeque<Slot>,
    last_window_len: usize,
    /// Groups of `slots` that are not held yet, in the order of first use.
    wanted: VecDeque<GroupKey>,
    /// Number of rows that are not done, by group.
    open: BTreeMap<GroupKey, usize>,
    held_bytes: u64,
    ended: bool,
}

struct HeldGroup {
    rows: GroupState,
    /// Number of streams that hold it.
    n_streams: usize,
    /// Number of its samples in the CPU pool.
    n_running: usize,
    read_again: bool,
}

enum GroupState {
    Reading,
    Ready(Arc<Rows>),
    /// To be read again when no sample uses this copy.
    Stale,
}

impl Fetcher {
    pub(crate) fn new(sources: Vec<StreamSource>, share_bytes: u64, reader: Reader) -> Self {
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

    /// Returns the next row of a stream, and skips those known to be bad.
    pub(crate) fn next(&mut self, stream_idx: usize, bad: &BTreeSet<u64>) -> Next {
        loop {
            let stream = &mut self.streams[stream_idx];
            let Some(&slot) = stream.slots.front() else {
                return if stream.ended { Next::End } else { Next::Wait };
            };
            let key = (slot.shard, slot.group);
            if bad.contains(&slot.row) {
                // Its group may not be held yet; then this row does not need it any more.
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
            let GroupState::Ready(rows) = &group.rows else {
                return Next::Wait;
            };
            let rows = Arc::clone(rows);
            group.n_running += 1;
            stream.take_front(&mut self.changed);
            return Next::Slot(slot, rows);
        }
    }

    /// Returns the step of the next row that is not known to be bad, in a plan by cost; `None` at the
    /// end.
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

    /// Notes that a sample has left the CPU pool; its row may be dispatched again.
    pub(crate) fn left_pool(&mut self, key: GroupKey) {
        let group = self
            .groups
            .get_mut(&key)
            .expect("the group of a running sample is held");
        group.n_running -= 1;
        if group.n_running == 0 && matches!(group.rows, GroupState::Stale) {
            group.rows = GroupState::Reading;
            self.reader.start(key, true);
        }
    }

    /// Notes that a stream is done with a row; after the last row of a group it drops the group.
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
        if group.n_streams == 0 && !matches!(group.rows, GroupState::Reading) {
            self.groups.remove(&key);
        }
    }

    /// Reads a group once more, because a row's bytes are not those that were written.
    ///
    /// Returns false if that was done before: then the fault is in the shard.
    pub(crate) fn read_again(&mut self, key: GroupKey) -> bool {
        let group = self
            .groups
            .get_mut(&key)
            .expect("the group of an open row is held");
        match group.rows {
            GroupState::Stale | GroupState::Reading => true,
            GroupState::Ready(_) if group.read_again => false,
            GroupState::Ready(_) => {
                group.read_again = true;
                group.rows = GroupState::Stale;
                true
            }
        }
    }

    /// Stores the rows of a group whose read has ended.
    pub(crate) fn arrived(&mut self, key: GroupKey, rows: Arc<Rows>) {
        let group = self
            .groups
            .get_mut(&key)
            .expect("a group stays until its read has ended");
        if group.n_streams == 0 {
            // All its rows turned out bad while it was read.
            self.groups.remove(&key);
        } else {
            group.rows = GroupState::Ready(rows);
        }
    }

    /// Returns the rows of a group that was read again, for a sample that waits for it.
    pub(crate) fn retry(&mut self, key: GroupKey) -> Arc<Rows> {
        let group = self
            .groups
            .get_mut(&key)
            .expect("the group of an open row is held");
        let GroupState::Ready(rows) = &group.rows else {
            unreachable!("asked for when the group arrived");
        };
        group.n_running += 1;
        Arc::clone(rows)
    }

    /// Returns whether [`Fetcher::advance`] may load or read something.
    pub(crate) fn has_changed(&self) -> bool {
        self.changed
    }

    /// Loads windows and starts reads while the share allows it.
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

    /// Applies the banker's rule of the module's documentation.
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
            HeldGroup {
                rows: GroupState::Reading,
                n_streams: 0,
                n_running: 0,
                read_again: false,
            }
        });
        group.n_streams += 1;
    }
}

impl Stream {
    fn new(source: StreamSource) -> Self {
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
    pub(crate) mixture: Arc<Mixture>,
    pub(crate) runtime: tokio::runtime::Handle,
    pub(crate) events: Sender<Event>,
    pub(crate) recorder: Arc<Recorder>,
    permits: Arc<Semaphore>,
}

impl Reader {
    pub(crate) fn new(
        mixture: Arc<Mixture>,
        runtime: tokio::runtime::Handle,
        events: Sender<Event>,
        recorder: Arc<Recorder>,
    ) -> Self {
        let is_local = mixture
            .datasets()
            .iter()
            .all(|dataset| dataset.location.local.is_some());
        let max_reads = if is_local {
            MAX_LOCAL_READS
        } else {
            MAX_STORE_READS
        };
        let permits = Arc::new(Semaphore::new(max_reads));
        Self {
            mixture,
            runtime,
            events,
            recorder,
            permits,
        }
    }

    /// Returns the bytes that reading and holding a group takes.
    fn group_bytes(&self, (shard, group): GroupKey) -> u64 {
        self.mixture.shard(shard as usize).groups[group as usize].memory
    }

    fn start(&self, key: GroupKey, again: bool) {
        let (mixture, events) = (Arc::clone(&self.mixture), self.events.clone());
        let (recorder, permits) = (Arc::clone(&self.recorder), Arc::clone(&self.permits));
        let bytes = self.group_bytes(key);
        self.runtime.spawn(async move {
            let Ok(_permit) = permits.acquire().await else {
                return; // Never closed.
            };
            recorder.reads.change(1);
            let start = Instant::now();
            let (shard, group) = (key.0 as usize, key.1 as usize);
            let read = std::panic::AssertUnwindSafe(mixture.read_group(shard, group, again));
            let result = match read.catch_unwind().await {
                Ok(result) => result.map(Arc::new),
                Err(panic) => Err(panic_error("read", panic.as_ref())),
            };
            recorder.read.record(start.elapsed(), result.is_err());
            recorder.reads.change(-1);
            recorder.bytes_read.fetch_add(bytes, Relaxed);
            // The scheduler receives events until it ends, so this blocks only for a moment.
            let _ended = events.send(Event::Group { key, result });
        });
    }
}
