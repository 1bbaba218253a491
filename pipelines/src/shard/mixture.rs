//! Several sets, read as one.

use std::ops::Range;

use understudy_schemas::Vocabulary;

use super::dataset::ShardSet;
use super::files::Shard;
use super::lengths::Length;
use super::rows::Rows;
use crate::store::TrafficCounts;
use crate::{Error, Result};

/// One or several sets, read as one: their rows, shards and row groups are numbered set after set.
#[derive(Debug)]
pub struct Sets {
    all: Vec<ShardSet>,
    /// Number of each set's first shard, then of all: `[n_sets + 1]`.
    first_shards: Vec<usize>,
    /// Number of each set's first row.
    first_rows: Vec<u64>,
    rows: u64,
}

impl Sets {
    /// Sets that one run can take its samples from.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if they differ in kind or, for tokens, in vocabulary or block size.
    ///
    /// # Panics
    ///
    /// If there are none.
    pub fn new(sets: Vec<ShardSet>) -> Result<Self> {
        let (first, others) = sets.split_first().expect("at least one set");
        let mut problems = Vec::new();
        for (i, set) in others.iter().enumerate() {
            let (place, i) = (&set.location.url, i + 1);
            if set.kind != first.kind {
                problems.push(format!(
                    "data.train[{i}]: {place} has the column `{}`, but {} has `{}`: a mix is of one kind",
                    set.kind.media_column(),
                    first.location.url,
                    first.kind.media_column()
                ));
            } else if set.tokenizer != first.tokenizer {
                problems.push(format!(
                    "data.train[{i}]: {place} has another vocabulary or other blocks than {}: write \
                     both with the same --tokenizer and --block-tokens",
                    first.location.url
                ));
            }
        }
        if !problems.is_empty() {
            return Err(Error::Config(problems));
        }
        let (mut first_shards, mut first_rows, mut rows) = (vec![0], Vec::new(), 0);
        for set in &sets {
            first_shards.push(first_shards[first_shards.len() - 1] + set.shards.len());
            first_rows.push(rows);
            rows += set.rows;
        }
        Ok(Self {
            all: sets,
            first_shards,
            first_rows,
            rows,
        })
    }

    /// The sets themselves, in their order.
    pub fn sets(&self) -> &[ShardSet] {
        &self.all
    }

    /// Rows of all sets.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The rows of each set.
    pub fn set_rows(&self) -> impl Iterator<Item = Range<u64>> {
        let starts = self.first_rows.iter();
        starts
            .zip(&self.all)
            .map(|(&first, set)| first..first + set.rows)
    }

    /// What the ids of sets of tokens mean.
    pub fn tokenizer(&self) -> Option<&Vocabulary> {
        self.all[0].tokenizer.as_ref()
    }

    /// Class names in the order of the labels' numbers, where all sets have the same.
    pub fn classes(&self) -> Option<&[String]> {
        let classes = self.all[0].classes.as_deref();
        let same = self.all.iter().all(|set| set.classes.as_deref() == classes);
        classes.filter(|_| same)
    }

    /// Whether all sets say how long their rows are.
    pub fn has_lengths(&self) -> bool {
        self.all.iter().all(ShardSet::has_lengths)
    }

    /// A shard by its number among all.
    pub fn shard(&self, shard_idx: usize) -> &Shard {
        let (set, shard) = self.find(shard_idx);
        &self.all[set].shards[shard]
    }

    /// The set that a shard is of, the shard, and the number there of a row of it.
    pub fn place(&self, shard_idx: usize, row: u64) -> (&ShardSet, &Shard, u64) {
        let (set_idx, shard) = self.find(shard_idx);
        let set = &self.all[set_idx];
        let shard = &set.shards[shard];
        (set, shard, row - self.first_rows[set_idx] - shard.first_row)
    }

    /// What went over the wire for all of them, and what caches saved.
    pub fn traffic(&self) -> TrafficCounts {
        let counts = self.all.iter().map(|set| set.location.traffic());
        counts.fold(TrafficCounts::default(), |sum, one| {
            sum.with(one, |a, b| a + b)
        })
    }

    /// Reads one row group, see [`ShardSet::read_group`].
    ///
    /// # Errors
    ///
    /// Those of [`ShardSet::read_group`].
    pub(crate) async fn read_group(
        &self,
        shard_idx: usize,
        group: usize,
        again: bool,
    ) -> Result<Rows> {
        let (set, shard) = self.find(shard_idx);
        if again {
            self.all[set].read_group_again(shard, group).await
        } else {
            self.all[set].read_group(shard, group).await
        }
    }

    /// Hands the length of each row to `each`, set after set, see [`ShardSet::read_lengths`].
    ///
    /// # Errors
    ///
    /// Those of [`ShardSet::read_lengths`].
    pub async fn read_lengths(&self, mut each: impl FnMut(Length)) -> Result<()> {
        for set in &self.all {
            set.read_lengths(&mut each).await?;
        }
        Ok(())
    }

    /// A shard's set, and its number there.
    fn find(&self, shard_idx: usize) -> (usize, usize) {
        let set = self
            .first_shards
            .partition_point(|&first| first <= shard_idx)
            - 1;
        (set, shard_idx - self.first_shards[set])
    }
}

impl From<ShardSet> for Sets {
    fn from(set: ShardSet) -> Self {
        Self {
            first_shards: vec![0, set.shards.len()],
            first_rows: vec![0],
            rows: set.rows,
            all: vec![set],
        }
    }
}
