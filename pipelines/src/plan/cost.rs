//! Steps of equal cost: the rows of a window, grouped into micro-batches.
//!
//! A window's rows, sorted by length, are cut into micro-batches, each one lane's share of one step.
//! A micro-batch costs its number of samples times its longest, as the reference counts a batch, so
//! padding counts; and neighbours in length need little of it.

use std::ops::Range;
use std::sync::Arc;

use crate::rng::Rng;

/// Cost of each row: frames at the config's rate, or tokens. 2 bytes per row; cheap to clone.
///
/// Where rows may cost more than 65,535, costs are rounded up to a multiple that 2 bytes can count:
/// frames of 20 s at 16 kHz to 5, a third of a millisecond.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Costs {
    /// In units of `unit`.
    rows: Arc<Vec<u16>>,
    unit: u32,
    most: u32,
    n_planned: u64,
    sum: u64,
    shortest: u32,
    longest: u32,
}

impl Costs {
    /// Takes the costs of all rows, dataset after dataset; rows of cost 0 are left out of the plan.
    pub fn new(rows: &[u32]) -> Self {
        let mut costs = Self::empty(rows.iter().copied().max().unwrap_or(0));
        for &cost in rows {
            costs.push(cost);
        }
        costs
    }

    /// Starts without rows; each that is added costs at most `most`.
    pub fn empty(most: u32) -> Self {
        Self {
            rows: Arc::default(),
            unit: most.div_ceil(u16::MAX.into()).max(1),
            most,
            n_planned: 0,
            sum: 0,
            shortest: 0,
            longest: 0,
        }
    }

    /// Adds the next row, which costs no more than `most` of [`Costs::empty`].
    pub fn push(&mut self, cost: u32) {
        Arc::make_mut(&mut self.rows).push(cost.div_ceil(self.unit) as u16);
        if cost > 0 {
            let cost = self.of(self.len() - 1);
            self.shortest = match self.n_planned {
                0 => cost,
                _ => self.shortest.min(cost),
            };
            self.longest = self.longest.max(cost);
            self.n_planned += 1;
            self.sum += u64::from(cost);
        }
    }

    /// Returns the number of rows in the plan.
    pub fn n_planned(&self) -> u64 {
        self.n_planned
    }

    /// Returns the least cost of a row in the plan; 0 if there is none.
    pub fn shortest(&self) -> u32 {
        self.shortest
    }

    /// Returns the highest cost of a row.
    pub fn longest(&self) -> u32 {
        self.longest
    }

    /// Returns the average cost of a row in the plan, at least 1.
    pub fn mean(&self) -> u64 {
        self.sum.checked_div(self.n_planned).unwrap_or(1).max(1)
    }

    /// Counts those of some rows that are in the plan.
    pub(super) fn n_planned_in(&self, rows: &Range<u64>) -> u64 {
        let rows = &self.rows[rows.start as usize..rows.end as usize];
        rows.iter().map(|&cost| u64::from(cost > 0)).sum()
    }

    /// Whether all of some rows are left out.
    pub(super) fn leave_out(&self, rows: &Range<u64>) -> bool {
        let rows = &self.rows[rows.start as usize..rows.end as usize];
        rows.iter().all(|&cost| cost == 0)
    }

    /// Returns the number of rows, those left out included.
    pub(super) fn len(&self) -> u64 {
        self.rows.len() as u64
    }

    /// Returns the cost of a row; 0 if it is left out.
    pub fn of(&self, row: u64) -> u32 {
        self.cost(self.rows[row as usize])
    }

    pub(super) fn sum(&self, rows: Range<u64>) -> u64 {
        let rows = &self.rows[rows.start as usize..rows.end as usize];
        rows.iter().map(|&units| u64::from(self.cost(units))).sum()
    }

    fn cost(&self, units: u16) -> u32 {
        (u32::from(units) * self.unit).min(self.most)
    }
}

/// Returns the least number of micro-batches of at most `share` each that hold the sorted `costs`.
pub(super) fn n_micro_batches(costs: &[u32], share: u64) -> usize {
    let mut n = 0;
    let mut rest = costs;
    while !rest.is_empty() {
        rest = &rest[first_micro_batch(rest, share)..];
        n += 1;
    }
    n
}

/// Returns the end of each micro-batch of the sorted `costs`: as few as `share` allows, none of them
/// costing more than it must for that number.
pub(super) fn micro_batch_ends(costs: &[u32], share: u64) -> Vec<usize> {
    let Some(&longest) = costs.last() else {
        return Vec::new();
    };
    let n = n_micro_batches(costs, share);
    // The least cap that gives no more micro-batches evens them out.
    let (mut low, mut high) = (u64::from(longest), share);
    while low < high {
        let middle = low + (high - low) / 2;
        if n_micro_batches(costs, middle) <= n {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    let mut ends = Vec::with_capacity(n);
    let mut end = 0;
    while end < costs.len() {
        end += first_micro_batch(&costs[end..], high);
        ends.push(end);
    }
    ends
}

/// Returns the most rows from the front of the sorted `costs` that `share` allows; at least one.
fn first_micro_batch(costs: &[u32], share: u64) -> usize {
    let fits = |n: usize| n as u64 * u64::from(costs[n - 1]) <= share;
    // Costs rise, so what n samples cost rises with n: double, then halve.
    let mut too_many = 2;
    while too_many <= costs.len() && fits(too_many) {
        too_many *= 2;
    }
    let (mut enough, mut too_many) = (too_many / 2, too_many.min(costs.len() + 1));
    while too_many - enough > 1 {
        let middle = enough + (too_many - enough) / 2;
        if fits(middle) {
            enough = middle;
        } else {
            too_many = middle;
        }
    }
    enough
}

/// Returns the micro-batches of a window in the order of its steps. `rows` are in their shuffled
/// order, those that are left out included.
pub(super) fn micro_batches(
    rows: &[u64],
    costs: &Costs,
    share: u64,
    rng: &mut Rng,
) -> Vec<Vec<u64>> {
    let mut rows: Vec<u64> = rows
        .iter()
        .copied()
        .filter(|&row| costs.of(row) > 0)
        .collect();
    rows.sort_by_key(|&row| costs.of(row)); // Stable: those of one length stay shuffled.
    let sorted: Vec<u32> = rows.iter().map(|&row| costs.of(row)).collect();
    let mut start = 0;
    let mut micro_batches: Vec<Vec<u64>> = micro_batch_ends(&sorted, share)
        .into_iter()
        .map(|end| rows[std::mem::replace(&mut start, end)..end].to_vec())
        .collect();
    rng.shuffle(&mut micro_batches);
    micro_batches
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn micro_batches_cover_all_rows_within_their_share_and_are_even(
            mut costs in prop::collection::vec(1_u32..300, 0..200), share in 300_u64..3000,
        ) {
            costs.sort_unstable();
            let ends = micro_batch_ends(&costs, share);
            prop_assert_eq!(ends.len(), n_micro_batches(&costs, share));
            prop_assert_eq!(ends.last().copied().unwrap_or(0), costs.len());
            let mut start = 0;
            for &end in &ends {
                prop_assert!(end > start);
                let padded = (end - start) as u64 * u64::from(costs[end - 1]);
                prop_assert!(padded <= share, "{padded} of {share}");
                start = end;
            }
            // One fewer is not possible: a micro-batch and the next row always exceed the share.
            let total: u64 = costs.iter().map(|&cost| u64::from(cost)).sum();
            prop_assert!(ends.len() as u64 >= total.div_ceil(share));
            let mut start = 0;
            for _ in 0..ends.len().saturating_sub(1) {
                let n = first_micro_batch(&costs[start..], share);
                if let Some(&next) = costs.get(start + n) {
                    prop_assert!((n + 1) as u64 * u64::from(next) > share);
                }
                start += n;
            }
        }
    }

    #[test]
    fn long_rows_are_counted_in_coarser_units() {
        let costs = Costs::new(&[0, 1, 319_998, 320_000, 6]);
        let found: Vec<u32> = (0..5).map(|row| costs.of(row)).collect();
        assert_eq!(found, [0, 5, 320_000, 320_000, 10]);
        assert_eq!(
            (costs.n_planned(), costs.shortest(), costs.longest()),
            (4, 5, 320_000)
        );
        assert_eq!(costs.mean(), (5 + 320_000 + 320_000 + 10) / 4);
        let short = Costs::new(&[65_535, 3]);
        assert_eq!((short.of(0), short.of(1)), (65_535, 3));
    }

    #[test]
    fn equal_lengths_make_equal_micro_batches() {
        // Ten samples, at most four each: 4, 3, 3 and not 4, 4, 2.
        let ends = micro_batch_ends(&[100; 10], 400);
        assert_eq!(ends.len(), 3);
        assert_eq!(micro_batch_ends(&[100; 9], 400), [3, 6, 9]);
        assert_eq!(micro_batch_ends(&[], 400), [0; 0]);
    }
}
