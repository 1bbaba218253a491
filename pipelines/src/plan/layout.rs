//! Where each row of a set lies, and the chunks that an order is made of.

use std::ops::Range;

use super::cost::Costs;
use crate::shard::ShardSet;

/// Fewer row groups per lane than this, and groups are cut into runs of rows.
const MIN_CHUNKS_PER_LANE: u64 = 4;

/// Which row lies where: all that a plan needs to know of its sets. 8 bytes per row group.
///
/// Rows, row groups and shards are numbered set after set.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_field_names, reason = "what starts where")]
pub struct Layout {
    /// First row of each group, then the number of rows: `[n_groups + 1]`.
    group_starts: Vec<u64>,
    /// First group of each shard, then the number of groups: `[n_shards + 1]`.
    shard_starts: Vec<u64>,
    /// First group of each set, then the number of groups: `[n_sets + 1]`.
    set_starts: Vec<usize>,
}

/// Where one row lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Shard of the plan's sets.
    pub shard: u32,
    /// Row group of the shard.
    pub group: u32,
    /// Row of the row group.
    pub row_in_group: u32,
}

impl Layout {
    /// The layout of one set of shards with these rows per row group.
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
        let set_starts = vec![0, group_starts.len() - 1];
        Self {
            group_starts,
            shard_starts,
            set_starts,
        }
    }

    /// The layout of several sets together, one after another.
    ///
    /// # Panics
    ///
    /// If there are none.
    pub fn joined(sets: impl IntoIterator<Item = Layout>) -> Self {
        let mut sets = sets.into_iter();
        let mut all = sets.next().expect("at least one set");
        for set in sets {
            let (rows, n_groups) = (all.rows(), all.n_groups());
            let moved = |starts: &[u64], by: u64| {
                starts[1..]
                    .iter()
                    .map(move |at| at + by)
                    .collect::<Vec<_>>()
            };
            all.group_starts.extend(moved(&set.group_starts, rows));
            all.shard_starts
                .extend(moved(&set.shard_starts, n_groups as u64));
            all.set_starts
                .extend(set.set_starts[1..].iter().map(|at| at + n_groups));
        }
        all
    }

    /// The layout of an open set.
    pub fn of(set: &ShardSet) -> Self {
        let groups: Vec<Vec<u64>> = set
            .shards
            .iter()
            .map(|shard| shard.groups.iter().map(|g| g.rows).collect())
            .collect();
        Self::new(groups.iter().map(Vec::as_slice))
    }

    /// Rows of all sets.
    pub fn rows(&self) -> u64 {
        self.group_starts[self.n_groups()]
    }

    /// Sets.
    pub fn n_sets(&self) -> usize {
        self.set_starts.len() - 1
    }

    /// The rows of the `set`-th set.
    pub fn set_rows(&self, set: usize) -> Range<u64> {
        let groups = self.set_groups(set);
        self.group_starts[groups.start]..self.group_starts[groups.end]
    }

    /// The row groups of the `set`-th set.
    pub fn set_groups(&self, set: usize) -> Range<usize> {
        self.set_starts[set]..self.set_starts[set + 1]
    }

    /// Row groups of all sets, empty ones included.
    pub fn n_groups(&self) -> usize {
        self.group_starts.len() - 1
    }

    /// Shards of all sets, empty ones included.
    pub fn n_shards(&self) -> usize {
        self.shard_starts.len() - 1
    }

    /// The rows of the `group`-th row group of all.
    pub fn group_rows(&self, group: usize) -> Range<u64> {
        self.group_starts[group]..self.group_starts[group + 1]
    }

    /// Number of the row group, among those of all sets, that holds `row`.
    pub fn group_of(&self, row: u64) -> usize {
        // Empty groups start where the next one does: the last start is the group with the row.
        self.group_starts.partition_point(|&start| start <= row) - 1
    }

    /// The shard that the `group`-th row group of all lies in, and its number there.
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

    /// Where `row` lies; `row` is less than [`Layout::rows`].
    pub fn place(&self, row: u64) -> Place {
        let group_of_set = self.group_of(row);
        let (shard, group) = self.shard_of(group_of_set);
        Place {
            shard,
            group,
            row_in_group: (row - self.group_starts[group_of_set]) as u32,
        }
    }
}

/// The units that an epoch's order permutes: row groups of one set, or runs of their rows.
#[derive(Debug)]
pub(super) struct Chunks {
    /// First row of each chunk, then the end of the set: `[n_chunks + 1]`.
    starts: Vec<u64>,
    /// What each row costs, and what each chunk does: `[n_chunks]`. Without them a row costs 1.
    costs: Option<(Costs, Vec<u64>)>,
}

impl Chunks {
    /// The row groups of a set, or runs of their rows where there are fewer than four groups per
    /// lane. No chunk is empty.
    pub(super) fn new(layout: &Layout, set: usize, lanes: usize, costs: Option<&Costs>) -> Self {
        let wanted = MIN_CHUNKS_PER_LANE * lanes as u64;
        let set_rows = layout.set_rows(set);
        let set_groups = layout.set_groups(set);
        let n_set_groups = set_groups.len();
        let groups = set_groups.map(|group| layout.group_rows(group));
        let groups = groups.filter(|rows| !rows.is_empty());
        let longest = match groups.clone().count() as u64 {
            n_groups if n_groups < wanted => ((set_rows.end - set_rows.start) / wanted).max(1),
            _ => u64::MAX,
        };
        let mut starts = Vec::with_capacity(n_set_groups + 1);
        for rows in groups {
            let n_rows = rows.end - rows.start;
            let n_runs = n_rows.div_ceil(longest);
            starts.extend((0..n_runs).map(|run| rows.start + part(run, n_rows, n_runs)));
        }
        starts.push(set_rows.end);
        let costs = costs.map(|costs| {
            let chunks = starts.windows(2).map(|ends| costs.sum(ends[0]..ends[1]));
            let chunks = chunks.collect();
            (costs.clone(), chunks)
        });
        Self { starts, costs }
    }

    /// What all rows of a chunk cost: their number, in a plan by count.
    pub(super) fn weight(&self, chunk: u32) -> u64 {
        match &self.costs {
            None => {
                let rows = self.rows(chunk);
                rows.end - rows.start
            }
            Some((_, chunks)) => chunks[chunk as usize],
        }
    }

    /// What all rows cost.
    pub(super) fn total_weight(&self) -> u64 {
        (0..self.len() as u32).map(|chunk| self.weight(chunk)).sum()
    }

    /// How many rows of a chunk cost `weight` together: the least number that costs no less.
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

    /// Number of chunks.
    pub(super) fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// The rows of one chunk.
    pub(super) fn rows(&self, chunk: u32) -> Range<u64> {
        self.starts[chunk as usize]..self.starts[chunk as usize + 1]
    }

    /// The chunk that holds `row`.
    pub(super) fn of_row(&self, row: u64) -> u32 {
        (self.starts.partition_point(|&start| start <= row) - 1) as u32
    }
}

/// Where the `index`-th of `n_parts` nearly equal parts of `n` begins: `index · n / n_parts`, rounded down.
pub(super) fn part(index: u64, n: u64, n_parts: u64) -> u64 {
    (u128::from(index) * u128::from(n) / u128::from(n_parts)) as u64
}

/// Which of `n_parts` nearly equal parts of `n` holds `at`: the inverse of [`part`].
pub(super) fn part_of(at: u64, n: u64, n_parts: u64) -> usize {
    (((u128::from(at) + 1) * u128::from(n_parts) - 1) / u128::from(n)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_past_empty_groups_and_shards() {
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
    fn parts_are_found_again() {
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
    fn groups_are_cut_only_when_there_are_few() {
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
