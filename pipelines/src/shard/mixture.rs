//! A mixture: one or several datasets, read as one.

use std::ops::Range;

use understudy_schemas::Vocabulary;

use super::dataset::Dataset;
use super::files::Shard;
use super::lengths::Length;
use super::rows::Rows;
use crate::store::TrafficCounts;
use crate::{Error, Result};

/// One or several datasets, read as one: their rows, shards and row groups are numbered dataset after
/// dataset.
#[derive(Debug)]
pub struct Mixture {
    all: Vec<Dataset>,
    /// Number of each dataset's first shard, then of all shards: `[n_datasets + 1]`.
    first_shards: Vec<usize>,
    /// Number of each dataset's first row.
    first_rows: Vec<u64>,
    rows: u64,
}

impl Mixture {
    /// Joins datasets that one run can take its samples from.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if they differ in kind or, for tokens, in vocabulary or block size.
    ///
    /// # Panics
    ///
    /// If there are none.
    pub fn new(datasets: Vec<Dataset>) -> Result<Self> {
        let (first, others) = datasets.split_first().expect("at least one dataset");
        let mut problems = Vec::new();
        for (i, dataset) in others.iter().enumerate() {
            let (place, i) = (&dataset.location.url, i + 1);
            if dataset.kind != first.kind {
                problems.push(format!(
                    "data.train[{i}]: {place} has the column `{}`, but {} has `{}`: a \
                     mixture needs one kind",
                    dataset.kind.media_column(),
                    first.location.url,
                    first.kind.media_column()
                ));
            } else if dataset.tokenizer != first.tokenizer {
                problems.push(format!(
                    "data.train[{i}]: {place} has another vocabulary or other blocks than {}; \
                     write both with the same --tokenizer and --block-tokens",
                    first.location.url
                ));
            }
        }
        if !problems.is_empty() {
            return Err(Error::Config(problems));
        }
        let (mut first_shards, mut first_rows, mut rows) = (vec![0], Vec::new(), 0);
        for dataset in &datasets {
            first_shards.push(first_shards[first_shards.len() - 1] + dataset.shards.len());
            first_rows.push(rows);
            rows += dataset.rows;
        }
        Ok(Self {
            all: datasets,
            first_shards,
            first_rows,
            rows,
        })
    }

    /// Returns the datasets, in the order of the config.
    pub fn datasets(&self) -> &[Dataset] {
        &self.all
    }

    /// Returns the rows of all datasets.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Returns the rows of each dataset, as a range among the rows of all.
    pub fn dataset_rows(&self) -> impl Iterator<Item = Range<u64>> {
        let starts = self.first_rows.iter();
        starts
            .zip(&self.all)
            .map(|(&first, dataset)| first..first + dataset.rows)
    }

    /// Returns the vocabulary of token datasets.
    pub fn tokenizer(&self) -> Option<&Vocabulary> {
        self.all[0].tokenizer.as_ref()
    }

    /// Returns the class names in the order of the labels' numbers, where all datasets have the same.
    pub fn classes(&self) -> Option<&[String]> {
        let classes = self.all[0].classes.as_deref();
        let same = self
            .all
            .iter()
            .all(|dataset| dataset.classes.as_deref() == classes);
        classes.filter(|_| same)
    }

    /// Whether all datasets have columns of lengths.
    pub fn has_lengths(&self) -> bool {
        self.all.iter().all(Dataset::has_lengths)
    }

    /// Returns a shard, by its number among those of all datasets.
    pub fn shard(&self, shard_idx: usize) -> &Shard {
        let (dataset, shard) = self.find(shard_idx);
        &self.all[dataset].shards[shard]
    }

    /// Returns the dataset of a shard, the shard, and the number in that shard of the row `row` of all.
    pub fn place(&self, shard_idx: usize, row: u64) -> (&Dataset, &Shard, u64) {
        let (dataset_idx, shard) = self.find(shard_idx);
        let dataset = &self.all[dataset_idx];
        let shard = &dataset.shards[shard];
        (
            dataset,
            shard,
            row - self.first_rows[dataset_idx] - shard.first_row,
        )
    }

    /// Counts the requests and bytes of all datasets, and what caches saved.
    pub fn traffic(&self) -> TrafficCounts {
        let counts = self.all.iter().map(|dataset| dataset.location.traffic());
        counts.fold(TrafficCounts::default(), |sum, one| {
            sum.with(one, |a, b| a + b)
        })
    }

    /// Reads one row group, see [`Dataset::read_group`].
    ///
    /// # Errors
    ///
    /// As [`Dataset::read_group`].
    pub(crate) async fn read_group(
        &self,
        shard_idx: usize,
        group: usize,
        again: bool,
    ) -> Result<Rows> {
        let (dataset, shard) = self.find(shard_idx);
        if again {
            self.all[dataset].read_group_again(shard, group).await
        } else {
            self.all[dataset].read_group(shard, group).await
        }
    }

    /// Passes the length of each row to `each`, dataset after dataset, see [`Dataset::read_lengths`].
    ///
    /// # Errors
    ///
    /// As [`Dataset::read_lengths`].
    pub async fn read_lengths(&self, mut each: impl FnMut(Length)) -> Result<()> {
        for dataset in &self.all {
            dataset.read_lengths(&mut each).await?;
        }
        Ok(())
    }

    /// Returns the index of a shard's dataset, and the shard's number in it.
    fn find(&self, shard_idx: usize) -> (usize, usize) {
        let dataset = self
            .first_shards
            .partition_point(|&first| first <= shard_idx)
            - 1;
        (dataset, shard_idx - self.first_shards[dataset])
    }
}

impl From<Dataset> for Mixture {
    fn from(dataset: Dataset) -> Self {
        Self {
            first_shards: vec![0, dataset.shards.len()],
            first_rows: vec![0],
            rows: dataset.rows,
            all: vec![dataset],
        }
    }
}
