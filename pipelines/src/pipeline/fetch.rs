//! Row groups: which to hold, when to read them, when to let go.
//!
//! A lane walks from window to window. Its current window and the next one are loaded; their row
//! groups are read in the order of first use and let go as soon as their last row is done. Lanes
//! that use the same group share one copy.
//!
//! # Why this cannot get stuck
//!
//! A group is read only if, after it, what is left of the share still lets every lane go on to
//! hold one largest window (the banker's rule): `held + claims ≤ share`, where a lane's claim is
//! what it lacks of a largest window. At the start that holds, because `held` is 0 and
//! [`Shares::divide`](crate::budget::Shares::divide) made the share that large. A lane that needs
//! a group of its current window holds nothing else once its running samples are done, and they
//! end by themselves; so that group lies within its claim and can always be had. Groups that
//! several lanes share are counted once for each, which errs on the safe side.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use crossbeam_channel::Sender;
use futures::FutureExt;
use tokio::sync::Semaphore;

use super::{Event, panic_error};
use crate::plan::Slot;
use crate::shard::{Rows, ShardSet};
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

/// What a lane has for the CPU pool.
pub(crate) enum Next {
    /// The next row, and the group that it lies in.
    Slot(Slot, Arc<Rows>),
    /// Its group is not there yet.
    Wait,
    /// There are no more.
    End,
}

/// The row groups of all the lanes of a rank.
pub(crate) struct Fetcher {
    share_bytes: u64,
    largest_window_bytes: u64,
    lanes: Vec<Lane>,
    groups: BTreeMap<GroupKey, Group>,
    reader: Reader,
    /// Something changed that may let a lane load or read more.
    changed: bool,
}

struct Lane {
    windows: Windows,
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
    /// Lanes that hold it.
    n_lanes: usize,
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
    pub(crate) fn new(
        lanes: Vec<Windows>,
        share_bytes: u64,
        largest_window_bytes: u64,
        reader: Reader,
    ) -> Self {
        let lanes = lanes.into_iter().map(Lane::new).collect();
        let groups = BTreeMap::new();
        Self {
            share_bytes,
            largest_window_bytes,
            lanes,
            groups,
            reader,
            changed: true,
        }
    }

    /// Hands out the next row of a lane, stepping over those known to be bad.
    pub(crate) fn next(&mut self, lane_idx: usize, bad: &BTreeSet<u64>) -> Next {
        loop {
            let lane = &mut self.lanes[lane_idx];
            let Some(&slot) = lane.slots.front() else {
                return if lane.ended { Next::End } else { Next::Wait };
            };
            let key = (slot.shard, slot.group);
            if bad.contains(&slot.row) {
                // Its group may not be held yet; then it is not wanted for this row any more.
                lane.take_front(&mut self.changed);
                self.done(lane_idx, key);
                continue;
            }
            if lane.wanted.contains(&key) {
                return Next::Wait;
            }
            let group = self
                .groups
                .get_mut(&key)
                .expect("a lane's group that is not wanted is held");
            let State::Ready(rows) = &group.rows else {
                return Next::Wait;
            };
            let rows = Arc::clone(rows);
            group.n_running += 1;
            lane.take_front(&mut self.changed);
            return Next::Slot(slot, rows);
        }
    }

    /// The step of the next row that is not known to be bad, in a plan by cost; `None` at the end.
    pub(crate) fn next_step(&mut self, lane_idx: usize, bad: &BTreeSet<u64>) -> Option<u64> {
        loop {
            let lane = &mut self.lanes[lane_idx];
            let n_before = lane.slots.len();
            lane.load(bad);
            self.changed |= lane.slots.len() > n_before;
            let slot = *lane.slots.front()?;
            if !bad.contains(&slot.row) {
                return Some(slot.step);
            }
            lane.take_front(&mut self.changed);
            self.done(lane_idx, (slot.shard, slot.group));
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

    /// A lane is through with a row; with the last one of a group the lane lets go of it.
    pub(crate) fn done(&mut self, lane_idx: usize, key: GroupKey) {
        let lane = &mut self.lanes[lane_idx];
        let open = lane
            .open
            .get_mut(&key)
            .expect("a row that was loaded is open");
        *open -= 1;
        if *open > 0 {
            return;
        }
        lane.open.remove(&key);
        self.changed = true;
        if let Some(position) = lane.wanted.iter().position(|wanted| *wanted == key) {
            lane.wanted.remove(position);
            return;
        }
        lane.held_bytes -= self.reader.group_bytes(key);
        let group = self
            .groups
            .get_mut(&key)
            .expect("a lane's group that is not wanted is held");
        group.n_lanes -= 1;
        if group.n_lanes == 0 && !matches!(group.rows, State::Reading) {
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
        if group.n_lanes == 0 {
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
            for lane_idx in 0..self.lanes.len() {
                self.lanes[lane_idx].load(bad);
                let Some(&key) = self.lanes[lane_idx].wanted.front() else {
                    continue;
                };
                if self.may_hold(lane_idx, self.reader.group_bytes(key)) {
                    self.hold(lane_idx, key);
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
    fn may_hold(&self, lane_idx: usize, bytes: u64) -> bool {
        let held_and_claimed: u64 = self
            .lanes
            .iter()
            .enumerate()
            .map(|(idx, lane)| {
                let held_bytes = lane.held_bytes + if idx == lane_idx { bytes } else { 0 };
                held_bytes.max(self.largest_window_bytes)
            })
            .sum();
        held_and_claimed <= self.share_bytes
    }

    fn hold(&mut self, lane_idx: usize, key: GroupKey) {
        let lane = &mut self.lanes[lane_idx];
        lane.wanted.pop_front();
        lane.held_bytes += self.reader.group_bytes(key);
        let reader = &self.reader;
        let group = self.groups.entry(key).or_insert_with(|| {
            reader.start(key, false);
            Group {
                rows: State::Reading,
                n_lanes: 0,
                n_running: 0,
                read_again: false,
            }
        });
        group.n_lanes += 1;
    }
}

impl Lane {
    fn new(windows: Windows) -> Self {
        Self {
            windows,
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
            let Some(window) = self.windows.next() else {
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
    pub(crate) set: Arc<ShardSet>,
    pub(crate) runtime: tokio::runtime::Handle,
    pub(crate) events: Sender<Event>,
    pub(crate) recorder: Arc<Recorder>,
    permits: Arc<Semaphore>,
}

impl Reader {
    pub(crate) fn new(
        set: Arc<ShardSet>,
        runtime: tokio::runtime::Handle,
        events: Sender<Event>,
        recorder: Arc<Recorder>,
    ) -> Self {
        let max_reads = match set.location.local {
            Some(_) => MAX_LOCAL_READS,
            None => MAX_STORE_READS,
        };
        let permits = Arc::new(Semaphore::new(max_reads));
        Self {
            set,
            runtime,
            events,
            recorder,
            permits,
        }
    }

    /// What holding a group takes, and reading it.
    fn group_bytes(&self, (shard, group): GroupKey) -> u64 {
        self.set.shards[shard as usize].groups[group as usize].memory
    }

    fn start(&self, key: GroupKey, again: bool) {
        let (set, events) = (Arc::clone(&self.set), self.events.clone());
        let (recorder, permits) = (Arc::clone(&self.recorder), Arc::clone(&self.permits));
        let bytes = self.group_bytes(key);
        self.runtime.spawn(async move {
            let Ok(_permit) = permits.acquire().await else {
                return; // Never closed.
            };
            recorder.reads.change(1);
            let start = Instant::now();
            let (shard, group) = (key.0 as usize, key.1 as usize);
            let read = async {
                if again {
                    set.read_group_way(shard, group, again).await
                } else {
                    set.read_group(shard, group).await
                }
            };
            let result = match std::panic::AssertUnwindSafe(read).catch_unwind().await {
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
