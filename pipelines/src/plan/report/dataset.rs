//! One dataset of a plan: its share of the samples, and the reads of its first epoch.

use std::collections::BTreeSet;

use crate::plan::build::Plan;
use crate::shard::{Dataset, Group};

/// One dataset of a plan: its share of the samples, and the reads of its first epoch.
#[derive(Debug, Clone, PartialEq)]
pub struct DatasetReport {
    /// Path or URL.
    pub url: String,
    /// Number of rows.
    pub rows: u64,
    /// Number of shards.
    pub shards: usize,
    /// Number of row groups.
    pub groups: usize,
    /// Number of chunks that an epoch permutes.
    pub chunks: usize,
    /// Share of the samples that come from it; in a plan by cost, of the micro-batches.
    pub share: f64,
    /// Steps of the run during one epoch of it.
    pub steps_per_epoch: f64,
    /// Bytes that one pass over it reads: the size of a cache of all reads.
    pub bytes: u64,
    /// Bytes that its first epoch fetches, without a cache.
    pub epoch_bytes: u64,
    /// Requests that its first epoch makes for them.
    pub epoch_requests: u64,
    /// Memory, in bytes, of the largest windows of all lanes together.
    pub windows_bytes: u64,
}

impl DatasetReport {
    /// Counts the bytes and requests of the first epoch of the `index`-th dataset.
    pub(super) fn new(dataset: &Dataset, plan: &Plan, index: usize) -> Self {
        let shards = dataset.shards.iter();
        let groups: Vec<Group> = shards
            .flat_map(|shard| shard.groups.iter().copied())
            .collect();
        let (layout, lanes) = (plan.layout(), plan.config().lanes);
        let first_group = layout.dataset_groups(index).start;
        let dataset_order = &plan.0.datasets[index];
        let order = dataset_order.order(0);
        let (mut epoch_bytes, mut epoch_requests, mut windows_bytes) = (0, 0, 0);
        for slice in 0..lanes {
            let mut largest = 0;
            for window in 0..dataset_order.n_windows(&order, slice) {
                let ranges = dataset_order.chunks_of_window(&order, slice, window);
                let read: BTreeSet<usize> = ranges
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
            url: dataset.location.url.clone(),
            rows: dataset.rows,
            shards: dataset.shards.len(),
            groups: groups.len(),
            chunks: dataset_order.chunks.len(),
            share: plan.mix().share(index),
            steps_per_epoch: 0.0, // Needs the size of a step, which may have to be measured.
            bytes: groups.iter().map(|group| group.fetch_bytes).sum(),
            epoch_bytes,
            epoch_requests,
            windows_bytes,
        }
    }

    /// Whether row groups are cut into several chunks, because there are fewer than four per lane.
    pub fn cuts_groups(&self) -> bool {
        self.chunks > self.groups
    }

    /// Returns the bytes beyond one pass over the dataset, as a share of that pass: they come from row
    /// groups that several lanes read.
    pub fn extra_share(&self) -> f64 {
        self.epoch_bytes as f64 / self.bytes as f64 - 1.0
    }
}
