//! What a plan costs and how well it shuffles, known before the run.

mod cost;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::iter::Peekable;

pub use self::cost::CostReport;
use self::cost::{CostSums, LaneCost};
use super::{BadRows, Plan, Slot};
use crate::Result;
use crate::config::StepSize;
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
    /// Samples per step, over all lanes; on average, where steps have a cost.
    pub batch: f64,
    /// What steps by cost do with their share; `None` in a plan by count.
    pub cost: Option<CostReport>,
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
        let batch = match plan.config().step {
            StepSize::Samples(batch) => batch as f64,
            StepSize::Cost(_) => 0.0, // Measured below.
        };
        let mut report = Self {
            rows,
            shards: layout.n_shards(),
            groups: layout.n_groups(),
            chunks: plan.n_chunks(),
            cuts_groups: plan.cuts_groups(),
            lanes: plan.config().lanes,
            batch,
            cost: None,
            steps_per_epoch: plan.n_planned() as f64 / batch,
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
        report.steps_per_epoch = plan.n_planned() as f64 / report.batch;
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
        let lanes = plan.lanes(0..self.lanes, 0, &BadRows::default())?;
        let mut lanes: Vec<_> = lanes
            .into_iter()
            .map(|lane| lane.flat_map(|window| window.slots).peekable())
            .collect();
        let mut last: Vec<Option<Slot>> = vec![None; self.lanes];
        let mut costs = CostSums::default();
        let (mut pairs, mut same_shard, mut same_group) = (0_u64, 0_u64, 0_u64);
        let (mut n_drawn, mut n_steps) = (0, 0);
        let n_wanted = DRAWN_SAMPLES.min(plan.n_planned() as usize);
        while n_drawn < n_wanted {
            let mut shards: BTreeMap<u32, u64> = BTreeMap::new();
            let mut groups = BTreeSet::new();
            let mut step_costs = Vec::with_capacity(self.lanes);
            let n_before = n_drawn;
            for (lane, last) in lanes.iter_mut().zip(&mut last) {
                let slots = share_of_step(lane, plan, n_steps);
                step_costs.extend(plan.costs().map(|costs| LaneCost::new(&slots, costs)));
                n_drawn += slots.len();
                for slot in slots {
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
            costs.add(&step_costs);
            let same: u64 = shards.values().map(|n| n * (n - 1)).sum();
            let batch = (n_drawn - n_before) as f64;
            self.batch_shard_prob += same as f64 / (batch * (batch - 1.0)).max(1.0);
            self.shards_per_batch += shards.len() as f64;
            self.groups_per_batch += groups.len() as f64;
            n_steps += 1;
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
        self.drawn_steps = n_steps as usize;
        self.batch = n_drawn as f64 / n_steps as f64;
        if let StepSize::Cost(lane_share) = plan.lane_share() {
            let left_out = self.rows - plan.n_planned();
            self.cost = Some(costs.report(lane_share, left_out));
        }
        Ok(())
    }
}

/// The slots that a lane gives to the step that comes next.
fn share_of_step(
    lane: &mut Peekable<impl Iterator<Item = Slot>>,
    plan: &Plan,
    step: u64,
) -> Vec<Slot> {
    match plan.lane_share() {
        StepSize::Samples(n) => lane.take(n).collect(),
        StepSize::Cost(_) => {
            std::iter::from_fn(|| lane.next_if(|slot| slot.step == step)).collect()
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: f64| bytes / f64::from(1 << 20);
        let percent = |share: f64| 100.0 * share;
        let places = usize::from(self.cost.is_some());
        let chunks = if self.cuts_groups {
            "runs of row groups: fewer than four groups per lane"
        } else {
            "each a row group"
        };
        writeln!(
            f,
            "set        {} rows in {} shards, {} row groups",
            self.rows, self.shards, self.groups
        )?;
        writeln!(
            f,
            "order      {} lanes of {:.places$} samples per step; {} chunks, {chunks}",
            self.lanes,
            self.batch / self.lanes as f64,
            self.chunks
        )?;
        writeln!(
            f,
            "epoch      {:.2} steps of {:.places$} samples",
            self.steps_per_epoch, self.batch
        )?;
        if let Some(cost) = &self.cost {
            writeln!(
                f,
                "cost       a lane takes {:.1} % of its share of {} a step; padding adds {:.1} %; \
                 the mean lane has {:.1} % of the work of the largest; {} rows are too short",
                percent(cost.used_share),
                cost.lane_share,
                percent(cost.padding_share),
                percent(cost.balance),
                cost.left_out
            )?;
        }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, BinaryArray, RecordBatch};
    use parquet::arrow::ArrowWriter;
    use parquet::file::properties::WriterProperties;

    use super::*;
    use crate::plan::{Layout, PlanConfig};
    use crate::shard::Kind;

    /// The report on shards of a hundred pictures of 100 bytes, in row groups of ten.
    fn report(n_shards: usize, lanes: usize, window_chunks: usize) -> Report {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for shard in 0..n_shards {
            let pictures = BinaryArray::from_iter_values((0..100_u8).map(|row| [row; 100]));
            let batch = RecordBatch::try_from_iter([("image", Arc::new(pictures) as ArrayRef)]);
            let batch = batch.expect("one column");
            let path = folder.path().join(format!("{shard:02}.parquet"));
            let file = std::fs::File::create(path).expect("a file");
            let properties = WriterProperties::builder()
                .set_dictionary_enabled(false)
                .set_max_row_group_row_count(Some(10))
                .build();
            let writer = ArrowWriter::try_new(file, batch.schema(), Some(properties));
            let mut writer = writer.expect("a writer");
            writer.write(&batch).expect("written");
            writer.close().expect("closed");
        }
        let url = folder.path().to_str().expect("UTF-8");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        let set = runtime
            .block_on(ShardSet::open(url, &[Kind::Image], &[].into()))
            .expect("a set");
        let config = PlanConfig {
            seed: 1,
            lanes,
            step: StepSize::Samples(8 * lanes),
            window_chunks,
        };
        let plan = Plan::new(Layout::of(&set), config, None).expect("a plan");
        Report::new(&set, &plan).expect("a report")
    }

    #[test]
    fn whole_groups_are_read_once_and_cut_ones_again() {
        let whole = report(8, 2, 4);
        assert_eq!((whole.rows, whole.groups, whole.chunks), (800, 80, 80));
        assert!(!whole.cuts_groups);
        assert!(whole.set_bytes > 80_000);
        // 80 groups in two slices of equal rows: none is cut.
        assert_eq!(
            (whole.epoch_reads, whole.epoch_bytes),
            (80, whole.set_bytes)
        );
        assert!(whole.bytes_per_sample() > 100.0 && whole.bytes_per_sample() < 200.0);
        assert!(whole.windows_bytes > 2 * 4 * 1000 && whole.windows_bytes < 2 * 4 * 10_000);
        // 10 groups over 8 lanes: runs of rows, read by every lane that has one.
        let cut = report(1, 8, 4);
        assert!(cut.cuts_groups && cut.chunks >= 32);
        assert!(cut.extra_share() > 0.5, "{}", cut.extra_share());
        assert!(cut.to_string().contains("runs of row groups"), "{cut}");
    }

    #[test]
    fn wider_windows_shuffle_better_and_cost_memory() {
        let (narrow, wide) = (report(8, 1, 1), report(8, 1, 16));
        assert!(
            narrow.neighbour_group_prob > 0.85,
            "{}",
            narrow.neighbour_group_prob
        );
        assert!(
            wide.neighbour_group_prob < 0.1,
            "{}",
            wide.neighbour_group_prob
        );
        assert!(
            wide.neighbour_shard_prob < 0.3,
            "{}",
            wide.neighbour_shard_prob
        );
        assert!(wide.shards_per_batch > narrow.shards_per_batch + 1.0);
        assert!(wide.windows_bytes > 10 * narrow.windows_bytes);
        assert!((wide.ideal_shard_prob - 1.0 / 8.0).abs() < 1e-9);
        assert!((wide.steps_per_epoch - 100.0).abs() < 1e-9);
    }
}
