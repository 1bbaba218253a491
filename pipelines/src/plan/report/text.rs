//! A report as people read it.

use std::fmt;

use super::{Report, SetReport};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = usize::from(self.cost.is_some());
        for set in &self.sets {
            self.show_set(f, set)?;
        }
        writeln!(
            f,
            "order      {} lanes of {:.places$} samples: steps of {:.places$}",
            self.lanes,
            self.batch / self.lanes as f64,
            self.batch
        )?;
        if let Some(cost) = &self.cost {
            writeln!(
                f,
                "cost       a lane takes {:.1} % of its share of {} a step; padding adds {:.1} %; \
                 {} rows are too short",
                percent(cost.used_share),
                cost.lane_share,
                percent(cost.padding_share),
                cost.left_out
            )?;
            if !cost.balance.is_empty() {
                let each = cost.balance.iter();
                let each: Vec<String> = each
                    .map(|&(world, balance)| format!("{world}: {:.1} %", percent(balance)))
                    .collect();
                writeln!(
                    f,
                    "balance    the mean rank's work of the largest's, by number of ranks: {}",
                    each.join(", ")
                )?;
            }
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
            "reads      {:.0} bytes and {:.5} requests per sample",
            self.bytes_per_sample(),
            self.requests_per_sample(),
        )?;
        let memory = self.memory.iter().map(|rank| {
            format!(
                "of {} {:.1} and {:.1} MiB",
                rank.world,
                mib(rank.least_bytes),
                mib(rank.ahead_bytes)
            )
        });
        writeln!(
            f,
            "memory     a rank needs, and needs to fetch every next window ahead: {}",
            memory.collect::<Vec<_>>().join(", ")
        )?;
        write!(
            f,
            "disk       {:.1} MiB for a cache of all that is read",
            mib(self.cache_bytes())
        )
    }
}

impl Report {
    fn show_set(&self, f: &mut fmt::Formatter<'_>, set: &SetReport) -> fmt::Result {
        let chunks = if set.cuts_groups() {
            "runs of row groups: fewer than four groups per lane"
        } else {
            "each a row group"
        };
        writeln!(
            f,
            "set        {} rows in {} shards, {} row groups: {}",
            set.rows, set.shards, set.groups, set.url
        )?;
        let of_what = if self.cost.is_some() {
            "cost"
        } else {
            "samples"
        };
        if self.sets.len() > 1 {
            writeln!(f, "  share    {:.2} % of the {of_what}", percent(set.share))?;
        }
        writeln!(
            f,
            "  epoch    {:.2} steps; {} chunks, {chunks}; {:.1} MiB, {:.1} % of it because lanes share row groups",
            set.steps_per_epoch,
            set.chunks,
            mib(set.epoch_bytes),
            percent(1.0 - set.bytes as f64 / set.epoch_bytes as f64)
        )
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn percent(share: f64) -> f64 {
    100.0 * share
}
