//! What a plan costs and how well it shuffles, known before the run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::{BadRows, Plan, Slot};
use crate::Result;
use crate::shard::{Group, ShardSet};

/// Samples that are drawn to measure the shuffle: enough for two digits.
const DRAWN_SAMPLES: usize = 200_000;

/// What a plan costs and how well it shuffles.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Rows of the set.
    pub rows: u64,
    /// Shards of the set.
    pub shards: usize,
    /// Row groups of the set.
    pub groups: usize,
    /// Chunks that an epoch permutes, and whether they are runs of row groups.
    pub chunks: usize,
    /// Whether chunks are runs of row groups, because there are fewer than four groups per lane.
    pub cuts_groups: bool,
    /// Lanes.
    pub lanes: usize,
    /// Samples per step, over all lanes.
    pub batch: usize,
    /// Steps that an epoch takes.
    pub steps_per_epoch: f64,
    /// Steps from the first on that the shuffle was measured over.
    pub drawn_steps: usize,
    /// Probability that two samples in a row of one lane lie in the same shard.
    pub neighbour_shard_prob: f64,
    /// Probability that two samples in a row of one lane lie in the same row group.
    pub neighbour_group_prob: f64,
    /// Probability that two samples of a batch lie in the same shard.
    pub batch_shard_prob: f64,
    /// The same probability if rows were drawn from the whole set at random.
    pub ideal_shard_prob: f64,
    /// Different shards in a batch, on average.
    pub shards_per_batch: f64,
    /// Different row groups in a batch, on average.
    pub groups_per_batch: f64,
    /// Bytes of the set that one pass over it needs.
    pub set_bytes: u64,
    /// Bytes that the first epoch fetches, without a cache.
    pub epoch_bytes: u64,
    /// Row groups that the first epoch fetches.
    pub epoch_reads: u64,
    /// Memory of one window of each lane, at most.
    pub windows_bytes: u64,
}

impl Report {
    /// Measures the plan of `set`: costs over the first epoch, shuffling over its first steps.
    pub fn new(set: &ShardSet, plan: &Plan) -> Result<Self> {
        let layout = plan.layout();
        let groups: Vec<Group> = set
            .shards
            .iter()
            .flat_map(|shard| shard.groups.iter().copied())
            .collect();
        let rows = layout.rows();
        let shard_share = |rows_of_shard: u64| (rows_of_shard as f64 / rows as f64).powi(2);
        let batch = plan.config().batch;
        let mut report = Self {
            rows,
            shards: layout.n_shards(),
            groups: layout.n_groups(),
            chunks: plan.n_chunks(),
            cuts_groups: plan.cuts_groups(),
            lanes: plan.config().lanes,
            batch,
            steps_per_epoch: rows as f64 / batch as f64,
            drawn_steps: 0,
            neighbour_shard_prob: 0.0,
            neighbour_group_prob: 0.0,
            batch_shard_prob: 0.0,
            ideal_shard_prob: set.shards.iter().map(|shard| shard_share(shard.rows)).sum(),
            shards_per_batch: 0.0,
            groups_per_batch: 0.0,
            set_bytes: groups.iter().map(|group| group.fetch_bytes).sum(),
            epoch_bytes: 0,
            epoch_reads: 0,
            windows_bytes: 0,
        };
        report.count_reads(plan, &groups);
        report.draw(plan)?;
        Ok(report)
    }

    /// Bytes that are fetched for each sample.
    pub fn bytes_per_sample(&self) -> f64 {
        self.epoch_bytes as f64 / self.rows as f64
    }

    /// Ranged reads for each sample.
    pub fn reads_per_sample(&self) -> f64 {
        self.epoch_reads as f64 / self.rows as f64
    }

    /// Bytes beyond one pass over the set, as a share of it: of row groups that several lanes read.
    pub fn extra_share(&self) -> f64 {
        self.epoch_bytes as f64 / self.set_bytes as f64 - 1.0
    }

    fn count_reads(&mut self, plan: &Plan, groups: &[Group]) {
        let order = plan.order(0);
        for slice in 0..self.lanes {
            let mut largest = 0;
            for window in 0..plan.n_windows(&order, slice) {
                let pieces = plan.window_pieces(&order, slice, window);
                let read: BTreeSet<usize> = pieces
                    .map(|rows| plan.layout().group_of(rows.start))
                    .collect();
                self.epoch_reads += read.len() as u64;
                self.epoch_bytes += read.iter().map(|&at| groups[at].fetch_bytes).sum::<u64>();
                largest = largest.max(read.iter().map(|&at| groups[at].memory).sum());
            }
            self.windows_bytes += largest;
        }
    }

    fn draw(&mut self, plan: &Plan) -> Result<()> {
        let n_steps = (DRAWN_SAMPLES / self.batch).clamp(1, self.steps_per_epoch.ceil() as usize);
        let lanes = plan.lanes(0..self.lanes, 0, &BadRows::default())?;
        let mut lanes: Vec<_> = lanes
            .into_iter()
            .map(|lane| lane.flat_map(|window| window.slots))
            .collect();
        let mut last: Vec<Option<Slot>> = vec![None; self.lanes];
        let (mut pairs, mut same_shard, mut same_group) = (0_u64, 0_u64, 0_u64);
        for _ in 0..n_steps {
            let mut shards: BTreeMap<u32, u64> = BTreeMap::new();
            let mut groups = BTreeSet::new();
            for (lane, last) in lanes.iter_mut().zip(&mut last) {
                for slot in lane.take(plan.samples_per_lane_step()) {
                    *shards.entry(slot.shard).or_default() += 1;
                    groups.insert((slot.shard, slot.group));
                    if let Some(last) = last.replace(slot) {
                        pairs += 1;
                        same_shard += u64::from(last.shard == slot.shard);
                        same_group +=
                            u64::from((last.shard, last.group) == (slot.shard, slot.group));
                    }
                }
            }
            let same: u64 = shards.values().map(|n| n * (n - 1)).sum();
            let batch = self.batch as f64;
            self.batch_shard_prob += same as f64 / (batch * (batch - 1.0)).max(1.0);
            self.shards_per_batch += shards.len() as f64;
            self.groups_per_batch += groups.len() as f64;
        }
        for sum in [
            &mut self.batch_shard_prob,
            &mut self.shards_per_batch,
            &mut self.groups_per_batch,
        ] {
            *sum /= n_steps as f64;
        }
        self.neighbour_shard_prob = same_shard as f64 / pairs.max(1) as f64;
        self.neighbour_group_prob = same_group as f64 / pairs.max(1) as f64;
        self.drawn_steps = n_steps;
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: f64| bytes / f64::from(1 << 20);
        let percent = |share: f64| 100.0 * share;
        let chunks = match self.cuts_groups {
            true => "runs of row groups: fewer than four groups per lane",
            false => "each a row group",
        };
        writeln!(
            f,
            "set        {} rows in {} shards, {} row groups",
            self.rows, self.shards, self.groups
        )?;
        writeln!(
            f,
            "order      {} lanes of {} samples per step; {} chunks, {chunks}",
            self.lanes,
            self.batch / self.lanes,
            self.chunks
        )?;
        writeln!(
            f,
            "epoch      {:.2} steps of {} samples",
            self.steps_per_epoch, self.batch
        )?;
        writeln!(f, "shuffle    measured over {} steps", self.drawn_steps)?;
        writeln!(
            f,
            "  lane     neighbours share a shard {:.1} %, a row group {:.1} %",
            percent(self.neighbour_shard_prob),
            percent(self.neighbour_group_prob)
        )?;
        writeln!(
            f,
            "  batch    pairs share a shard {:.1} % ({:.1} % if drawn at random); {:.1} shards and {:.1} row groups",
            percent(self.batch_shard_prob),
            percent(self.ideal_shard_prob),
            self.shards_per_batch,
            self.groups_per_batch
        )?;
        writeln!(
            f,
            "reads      {:.0} bytes and {:.5} requests per sample; {:.1} MiB per epoch, {:.1} % of it because lanes share row groups",
            self.bytes_per_sample(),
            self.reads_per_sample(),
            mib(self.epoch_bytes as f64),
            percent(1.0 - self.set_bytes as f64 / self.epoch_bytes as f64)
        )?;
        write!(
            f,
            "memory     {:.1} MiB for one window of every lane; twice that while the next is fetched",
            mib(self.windows_bytes as f64)
        )
    }
}
