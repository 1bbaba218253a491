//! Rows that earlier steps found to be bad.

use std::ops::Range;

/// Rows that are known to be bad.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BadRows {
    /// Sorted, each once.
    rows: Vec<u64>,
}

impl BadRows {
    /// Whether a row is known to be bad.
    pub fn contains(&self, row: u64) -> bool {
        self.rows.binary_search(&row).is_ok()
    }

    pub(super) fn in_range(&self, rows: Range<u64>) -> impl Iterator<Item = u64> + use<'_> {
        let from = self.rows.partition_point(|&row| row < rows.start);
        self.rows[from..]
            .iter()
            .copied()
            .take_while(move |&row| row < rows.end)
    }

    pub(super) fn count_in(&self, rows: Range<u64>) -> u64 {
        let before = |end: u64| self.rows.partition_point(|&row| row < end) as u64;
        before(rows.end) - before(rows.start)
    }
}

impl FromIterator<u64> for BadRows {
    fn from_iter<I: IntoIterator<Item = u64>>(rows: I) -> Self {
        let mut rows: Vec<u64> = rows.into_iter().collect();
        rows.sort_unstable();
        rows.dedup();
        Self { rows }
    }
}
