//! What one set of a plan gives, and what reading it takes.

use std::collections::BTreeSet;

use crate::plan::build::Plan;
use crate::shard::{Group, ShardSet};

/// What one set of a plan gives, and what reading it takes.
#[derive(Debug, Clone, PartialEq)]
pub struct SetReport {
    /// Where it lies.
    pub url: String,
    /// Rows.
    pub rows: u64,
    /// Shards.
    pub shards: usize,
    /// Row groups.
    pub groups: usize,
    /// Chunks that an epoch permutes.
    pub chunks: usize,
    /// Its share of the samples; in a plan by cost, of the lanes' shares of the steps.
    pub share: f64,
    /// Steps that an epoch of it takes.
    pub steps_per_epoch: f64,
    /// Bytes that one pass over it needs: what a cache of all that is read takes.
    pub bytes: u64,
    /// Bytes that its first epoch fetches, without a cache.
    pub epoch_bytes: u64,
    /// Requests that its first epoch makes for them.
    pub epoch_requests: u64,
    /// Memory of one window of each lane, at most.
    pub windows_bytes: u64,
}

impl SetReport {
    /// Counts what the first epoch of the `index`-th set reads.
    pub(super) fn new(set: &ShardSet, plan: &Plan, index: usize) -> Self {
        let shards = set.shards.iter();
        let groups: Vec<Group> = shards
            .flat_map(|shard| shard.groups.iter().copied())
            .collect();
        let (layout, lanes) = (plan.layout(), plan.config().lanes);
        let first_group = layout.set_groups(index).start;
        let set_order = &plan.0.sets[index];
        let order = set_order.order(0);
        let (mut epoch_bytes, mut epoch_requests, mut windows_bytes) = (0, 0, 0);
        for slice in 0..lanes {
            let mut largest = 0;
            for window in 0..set_order.n_windows(&order, slice) {
                let pieces = set_order.window_pieces(&order, slice, window);
                let read: BTreeSet<usize> = pieces
                    .map(|rows| layout.group_of(rows.start) - first_group)
                    .collect();
                let read = || read.iter().map(|&group| groups[group]);
                epoch_bytes += read().map(|group| group.fetch_bytes).sum::<u64>();
                epoch_requests += read().map(|group| u64::from(group.requests)).sum::<u64>();
                largest = largest.max(read().map(|group| group.memory).sum());
            }
            windows_bytes += largest;
        }
        Self {
            url: set.location.url.clone(),
            rows: set.rows,
            shards: set.shards.len(),
            groups: groups.len(),
            chunks: set_order.chunks.len(),
            share: plan.mix().share(index),
            steps_per_epoch: 0.0, // Needs the size of a step, which may have to be measured.
            bytes: groups.iter().map(|group| group.fetch_bytes).sum(),
            epoch_bytes,
            epoch_requests,
            windows_bytes,
        }
    }

    /// Whether chunks are runs of row groups, because there are fewer than four groups per lane.
    pub fn cuts_groups(&self) -> bool {
        self.chunks > self.groups
    }

    /// Bytes beyond one pass over the set, as a share of it: of row groups that several lanes read.
    pub fn extra_share(&self) -> f64 {
        self.epoch_bytes as f64 / self.bytes as f64 - 1.0
    }
}
