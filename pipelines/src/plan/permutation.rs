//! The order of one epoch: its chunks permuted, laid end to end and cut into equal slices.

use std::ops::Range;

use super::layout::{Chunks, part};
use crate::rng::{Purpose, Rng, SampleKey};

/// Indices that separate the streams of [`Purpose::Order`].
const CHUNKS: u32 = 0;
const WINDOWS: u32 = 1;
const MICRO_BATCHES: u32 = 2;

/// The order of one epoch. 4 bytes per chunk.
#[derive(Debug)]
pub(super) struct EpochOrder {
    pub(super) epoch: u64,
    /// The chunks as the epoch takes them.
    order: Vec<u32>,
    /// Start of each slice, then the end: `[n_slices + 1]`.
    slice_starts: Vec<SliceStart>,
}

/// The start of a slice: `rows` rows into the `index`-th chunk of the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SliceStart {
    index: usize,
    rows: u64,
}

impl EpochOrder {
    /// Permutes the chunks for `epoch` and cuts the rows into `n_slices` slices whose costs differ by
    /// at most the costliest row: by one row, where rows are counted.
    pub(super) fn new(chunks: &Chunks, seed: u64, epoch: u64, n_slices: usize) -> Self {
        let order = permutation(chunks.len(), seed, epoch);
        let total: u64 = order.iter().map(|&chunk| chunks.weight(chunk)).sum();
        let mut slice_starts = Vec::with_capacity(n_slices + 1);
        let mut next = 0;
        let mut passed = 0;
        for (index, &chunk) in order.iter().enumerate() {
            let rows = chunks.rows(chunk);
            let end = passed + chunks.weight(chunk);
            while slice_starts.len() < n_slices && next < end {
                let rows_before = chunks.rows_of_weight(chunk, next - passed);
                slice_starts.push(if rows_before == rows.end - rows.start {
                    SliceStart {
                        index: index + 1,
                        rows: 0,
                    }
                } else {
                    SliceStart {
                        index,
                        rows: rows_before,
                    }
                });
                next = part(slice_starts.len() as u64, total, n_slices as u64);
            }
            passed = end;
        }
        slice_starts.push(SliceStart {
            index: order.len(),
            rows: 0,
        });
        Self {
            epoch,
            order,
            slice_starts,
        }
    }

    /// Returns the chunks in this epoch's order.
    pub(super) fn chunks(&self) -> &[u32] {
        &self.order
    }

    /// Returns the number of chunks that a slice has rows of; it may share the first and the last
    /// with its neighbours.
    pub(super) fn n_chunks(&self, slice: usize) -> usize {
        let (from, to) = (self.slice_starts[slice], self.slice_starts[slice + 1]);
        if from == to {
            // Fewer rows than slices.
            0
        } else {
            to.index + usize::from(to.rows > 0) - from.index
        }
    }

    /// Returns the rows that a slice has of its `nth` chunk.
    pub(super) fn chunk_rows(&self, chunks: &Chunks, slice: usize, nth: usize) -> Range<u64> {
        let (from, to) = (self.slice_starts[slice], self.slice_starts[slice + 1]);
        let index = from.index + nth;
        let rows = chunks.rows(self.order[index]);
        let start = if nth == 0 {
            rows.start + from.rows
        } else {
            rows.start
        };
        let end = if index == to.index {
            rows.start + to.rows
        } else {
            rows.end
        };
        start..end
    }
}

/// Returns a permutation of `0..n`, one for each seed and epoch.
fn permutation(n: usize, seed: u64, epoch: u64) -> Vec<u32> {
    let mut order: Vec<u32> = (0..n as u32).collect();
    let key = SampleKey {
        seed,
        epoch,
        sample: 0,
    };
    Rng::for_sample(key, Purpose::Order, CHUNKS).shuffle(&mut order);
    order
}

/// Returns the generator that shuffles the micro-batches of a window.
pub(super) fn micro_batch_rng(seed: u64, epoch: u64, slice: usize, window: usize) -> Rng {
    let sample = (slice as u64) << 32 | window as u64;
    let key = SampleKey {
        seed,
        epoch,
        sample,
    };
    Rng::for_sample(key, Purpose::Order, MICRO_BATCHES)
}

/// Returns the order in which the `n` pooled rows of a window are taken.
pub(super) fn window_order(
    n: usize,
    seed: u64,
    epoch: u64,
    slice: usize,
    window: usize,
) -> Vec<u32> {
    let mut order: Vec<u32> = (0..n as u32).collect();
    let sample = (slice as u64) << 32 | window as u64;
    Rng::for_sample(
        SampleKey {
            seed,
            epoch,
            sample,
        },
        Purpose::Order,
        WINDOWS,
    )
    .shuffle(&mut order);
    order
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::plan::Layout;

    proptest! {
        #[test]
        fn permutation_is_a_bijection(n in 0_usize..3000, seed: u64, epoch: u64) {
            let mut order = permutation(n, seed, epoch);
            order.sort_unstable();
            prop_assert!(order.iter().copied().eq(0..n as u32));
        }

        #[test]
        fn slices_cover_each_row_once_and_are_equal(
            groups in prop::collection::vec(0_u64..9, 1..60), lanes in 1_usize..20, epoch: u64,
        ) {
            let layout = Layout::new([groups.as_slice()]);
            prop_assume!(layout.rows() > 0);
            let chunks = Chunks::new(&layout, 0, lanes, None);
            let order = EpochOrder::new(&chunks, 1, epoch, lanes);
            let mut seen = Vec::new();
            for slice in 0..lanes {
                let before = seen.len() as u64;
                for nth in 0..order.n_chunks(slice) {
                    let rows = order.chunk_rows(&chunks, slice, nth);
                    prop_assert!(!rows.is_empty());
                    seen.extend(rows);
                }
                let n = seen.len() as u64 - before;
                let (low, high) = (layout.rows() / lanes as u64, layout.rows().div_ceil(lanes as u64));
                prop_assert!((low..=high).contains(&n), "{n} rows, not {low}..={high}");
            }
            seen.sort_unstable();
            prop_assert!(seen.into_iter().eq(0..layout.rows()));
        }
    }

    #[test]
    fn epochs_and_seeds_differ() {
        assert_ne!(permutation(100, 1, 0), permutation(100, 1, 1));
        assert_ne!(permutation(100, 1, 0), permutation(100, 2, 0));
        assert_eq!(permutation(100, 1, 0), permutation(100, 1, 0));
    }
}
