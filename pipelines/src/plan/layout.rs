//! The shard and row group of each row, and the chunks that an order permutes.

use std::ops::Range;

use super::cost::Costs;
use crate::shard::Dataset;

/// With fewer row groups per lane than this, groups are cut into several chunks.
const MIN_CHUNKS_PER_LANE: u64 = 4;

/// The shard and row group of each row: all that a plan needs of its datasets. 8 bytes per
/// row group.
///
/// Rows, row groups and shards are numbered dataset after dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::struct_field_names,
    reason = "each field lists first rows or first groups"
)]
pub struct Layout {
    /// First row of each group, then the number of rows: `[n_groups + 1]`.
    group_starts: Vec<u64>,
    /// First group of each shard, then the number of groups: `[n_shards + 1]`.
    shard_starts: Vec<u64>,
    /// First group of each dataset, then the number of groups: `[n_datasets + 1]`.
    dataset_starts: Vec<usize>,
}

/// Place of one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Shard, among those of all datasets.
    pub shard: u32,
    /// Row group of the shard.
    pub group: u32,
    /// Row of the row group.
    pub row_in_group: u32,
}

impl Layout {
    /// Lays out one dataset: for each shard the rows of its row groups.
    pub fn new<'a>(shards: impl IntoIterator<Item = &'a [u64]>) -> Self {
        let mut group_starts = vec![0];
        let mut shard_starts = vec![0];
        let mut rows = 0;
        for groups in shards {
            group_starts.extend(groups.iter().map(|n| {
                rows += n;
                rows
            }));
            shard_starts.push(group_starts.len() as u64 - 1);
        }
        let dataset_starts = vec![0, group_starts.len() - 1];
        Self {
            group_starts,
            shard_starts,
            dataset_starts,
        }
    }

    /// Joins the layouts of several datasets, one after another.
    ///
    /// # Panics
    ///
    /// If there are none.
    pub fn joined(datasets: impl IntoIterator<Item = Layout>) -> Self {
        let mut datasets = datasets.into_iter();
        let mut all = datasets.next().expect("at least one dataset");
        for dataset in datasets {
            let (rows, n_groups) = (all.rows(), all.n_groups());
            let moved = |starts: &[u64], by: u64| {
                starts[1..]
                    .iter()
                    .map(move |at| at + by)
                    .collect::<Vec<_>>()
            };
            all.group_starts.extend(moved(&dataset.group_starts, rows));
            all.shard_starts
                .extend(moved(&dataset.shard_starts, n_groups as u64));
            all.dataset_starts
                .extend(dataset.dataset_starts[1..].iter().map(|at| at + n_groups));
        }
        all
    }

    /// Lays out an open dataset.
    pub fn of(dataset: &Dataset) -> Self {
        let groups: Vec<Vec<u64>> = dataset
            .shards
            .iter()
            .map(|shard| shard.groups.iter().map(|g| g.rows).collect())
            .collect();
        Self::new(groups.iter().map(Vec::as_slice))
    }

    /// Returns the rows of all datasets.
    pub fn rows(&self) -> u64 {
        self.group_starts[self.n_groups()]
    }

    /// Returns the number of datasets.
    pub fn n_datasets(&self) -> usize {
        self.dataset_starts.len() - 1
    }

    /// Returns the rows of a dataset, by its index.
    pub fn dataset_rows(&self, dataset: usize) -> Range<u64> {
        let groups = self.dataset_groups(dataset);
        self.group_starts[groups.start]..self.group_starts[groups.end]
    }

    /// Returns the row groups of a dataset, by its index.
    pub fn dataset_groups(&self, dataset: usize) -> Range<usize> {
        self.dataset_starts[dataset]..self.dataset_starts[dataset + 1]
    }

    /// Returns the number of row groups of all datasets, empty ones included.
    pub fn n_groups(&self) -> usize {
        self.group_starts.len() - 1
    }

    /// Returns the number of shards of all datasets, empty ones included.
    pub fn n_shards(&self) -> usize {
        self.shard_starts.len() - 1
    }

    /// Returns the rows of a row group, by its number among those of all datasets.
    pub fn group_rows(&self, group: usize) -> Range<u64> {
        self.group_starts[group]..self.group_starts[group + 1]
    }

    /// Returns the row group that holds `row`, by its number among those of all datasets.
    pub fn group_of(&self, row: u64) -> usize {
        // Empty groups start where the next one does: the last start is the group with the row.
        self.group_starts.partition_point(|&start| start <= row) - 1
    }

    /// Returns the shard of a row group, given by its number among those of all datasets, and its
    /// number in that shard.
    pub fn shard_of(&self, group: usize) -> (u32, u32) {
        let shard = self
            .shard_starts
            .partition_point(|&start| start <= group as u64)
            - 1;
        (
            shard as u32,
            (group as u64 - self.shard_starts[shard]) as u32,
        )
    }

    /// Returns the place of `row`, which must be less than [`Layout::rows`].
    pub fn place(&self, row: u64) -> Place {
        let group_idx = self.group_of(row);
        let (shard, group) = self.shard_of(group_idx);
        Place {
            shard,
            group,
            row_in_group: (row - self.group_starts[group_idx]) as u32,
        }
    }
}

/// The chunks that an epoch's order permutes: row groups of one dataset, or ranges of their rows.
#[derive(Debug)]
pub(super) struct Chunks {
    /// First row of each chunk, then the end of the dataset: `[n_chunks + 1]`.
    starts: Vec<u64>,
    /// Costs of the rows, and of the chunks: `[n_chunks]`. Without them a row costs 1.
    costs: Option<(Costs, Vec<u64>)>,
}

impl Chunks {
    /// Makes a chunk of each row group of a dataset, or several where there are fewer than four
    /// groups per lane. No chunk is empty.
    pub(super) fn new(
        layout: &Layout,
        dataset: usize,
        lanes: usize,
        costs: Option<&Costs>,
    ) -> Self {
        let wanted = MIN_CHUNKS_PER_LANE * lanes as u64;
        let dataset_rows = layout.dataset_rows(dataset);
        let dataset_groups = layout.dataset_groups(dataset);
        let n_dataset_groups = dataset_groups.len();
        let groups = dataset_groups.map(|group| layout.group_rows(group));
        let groups = groups.filter(|rows| !rows.is_empty());
        let longest = match groups.clone().count() as u64 {
            n_groups if n_groups < wanted => {
                ((dataset_rows.end - dataset_rows.start) / wanted).max(1)
            }
            _ => u64::MAX,
        };
        let mut starts = Vec::with_capacity(n_dataset_groups + 1);
        for rows in groups {
            let n_rows = rows.end - rows.start;
            let n_chunks = n_rows.div_ceil(longest);
            starts.extend((0..n_chunks).map(|index| rows.start + part(index, n_rows, n_chunks)));
        }
        starts.push(dataset_rows.end);
        let costs = costs.map(|costs| {
            let chunks = starts.windows(2).map(|ends| costs.sum(ends[0]..ends[1]));
            let chunks = chunks.collect();
            (costs.clone(), chunks)
        });
        Self { starts, costs }
    }

    /// Returns the cost of all rows of a chunk: their number, in a plan by count.
    pub(super) fn weight(&self, chunk: u32) -> u64 {
        match &self.costs {
            None => {
                let rows = self.rows(chunk);
                rows.end - rows.start
            }
            Some((_, chunks)) => chunks[chunk as usize],
        }
    }

    /// Returns the cost of all rows.
    pub(super) fn total_weight(&self) -> u64 {
        (0..self.len() as u32).map(|chunk| self.weight(chunk)).sum()
    }

    /// Returns the least number of first rows of a chunk that cost `weight` or more together.
    pub(super) fn rows_of_weight(&self, chunk: u32, weight: u64) -> u64 {
        let Some((costs, _)) = &self.costs else {
            return weight;
        };
        let mut passed = 0;
        let rows = self.rows(chunk);
        let start = rows.start;
        for row in rows {
            if passed >= weight {
                return row - start;
            }
            passed += u64::from(costs.of(row));
        }
        self.rows(chunk).end - start
    }

    /// Returns the number of chunks.
    pub(super) fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// Returns the rows of one chunk.
    pub(super) fn rows(&self, chunk: u32) -> Range<u64> {
        self.starts[chunk as usize]..self.starts[chunk as usize + 1]
    }

    /// Returns the chunk that holds `row`.
    pub(super) fn of_row(&self, row: u64) -> u32 {
        (self.starts.partition_point(|&start| start <= row) - 1) as u32
    }
}

/// Returns the start of the `index`-th of `n_parts` nearly equal parts of `n`: `index · n / n_parts`,
/// rounded down.
pub(super) fn part(index: u64, n: u64, n_parts: u64) -> u64 {
    (u128::from(index) * u128::from(n) / u128::from(n_parts)) as u64
}

/// Returns the index of the part that holds `at`: the inverse of [`part`].
pub(super) fn part_of(at: u64, n: u64, n_parts: u64) -> usize {
    (((u128::from(at) + 1) * u128::from(n_parts) - 1) / u128::from(n)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_after_empty_groups_and_shards() {
        let layout = Layout::new([&[2, 0, 3][..], &[], &[0, 1]]);
        assert_eq!(
            (layout.rows(), layout.n_groups(), layout.n_shards()),
            (6, 5, 3)
        );
        let place = |shard, group, row_in_group| Place {
            shard,
            group,
            row_in_group,
        };
        let places: Vec<_> = (0..6).map(|row| layout.place(row)).collect();
        assert_eq!(
            places,
            [
                place(0, 0, 0),
                place(0, 0, 1),
                place(0, 2, 0),
                place(0, 2, 1),
                place(0, 2, 2),
                place(2, 1, 0)
            ]
        );
    }

    #[test]
    fn part_of_inverts_part() {
        for (n, n_parts) in [(10, 3), (3, 10), (7, 7), (1, 5)] {
            for at in 0..n {
                let index = part_of(at, n, n_parts) as u64;
                let range = part(index, n, n_parts)..part(index + 1, n, n_parts);
                assert!(
                    range.contains(&at),
                    "{at} of {n} is not in part {index} of {n_parts}"
                );
            }
        }
    }

    #[test]
    fn groups_are_cut_only_with_fewer_than_four_per_lane() {
        let many = Layout::new([&[5, 0, 1, 2, 2, 9][..]]);
        let chunks = Chunks::new(&many, 0, 1, None);
        let all: Vec<_> = (0..chunks.len() as u32)
            .map(|chunk| chunks.rows(chunk))
            .collect();
        assert_eq!(all, [0..5, 5..6, 6..8, 8..10, 10..19]);
        let few = Layout::new([&[10, 3][..]]);
        let chunks = Chunks::new(&few, 0, 1, None);
        let all: Vec<_> = (0..chunks.len() as u32)
            .map(|chunk| chunks.rows(chunk))
            .collect();
        assert_eq!(all, [0..2, 2..5, 5..7, 7..10, 10..13]);
        assert_eq!(chunks.of_row(6), 2);
    }
}
