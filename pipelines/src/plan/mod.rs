//! The order of samples: a pure function of layout, seed, epoch and settings.
//!
//! **Chunks.** A chunk is a row group, or a range of its rows where there are fewer than four row
//! groups per lane. Each epoch permutes the chunks with a generator keyed by (seed, epoch).
//!
//! **Slices and lanes.** The permuted chunks, laid end to end, are cut *by rows* into as many
//! slices as there are lanes, so that slices differ by one row at most. Lane `l` takes slice
//! `(l + epoch) mod lanes`: after `lanes` epochs every lane has walked exactly as many rows as any
//! other, so lanes drift apart by one row at most and never starve, however uneven the row groups
//! are. If each lane were dealt entire chunks, no chunk would be read by two lanes, but lanes would
//! drift without bound, or the deal would depend on all epochs before. The price is `lanes - 1`
//! chunks per epoch that two lanes read: [`Report`] counts their bytes.
//!
//! **Windows.** Inside a slice, about `window_chunks` neighbouring chunks are pooled and their rows
//! shuffled together. A lane walks slice after slice and never ends; lanes may cross into the next
//! epoch at different steps, but each (epoch, row) comes once.
//!
//! **Bad rows.** A lane's order is a fixed sequence of rows; a bad row is skipped and the next good
//! row takes its slot. Whether a row is bad depends on its bytes alone, so the place of step `k` is
//! found again from the step and the bad rows met before it.
//!
//! **By cost.** Where the size of a step is given in seconds or tokens, [`Costs`] weigh the rows:
//! slices are cut by cost, and a window's rows are grouped by length into micro-batches, each one
//! lane's share of one step (`cost.rs`), which come in random order. The number of a window's
//! micro-batches depends on the lengths of its rows alone, so the place of step `k` is arithmetic on
//! lengths; it does not depend on bad rows, which leave their micro-batch short.
//!
//! **Mixtures.** Each dataset of a mixture has its own order, as if it were alone, except that the
//! lanes take only their share of a step from it: [`Mix`] computes which dataset each
//! sample of a lane comes from (each micro-batch, in a plan by cost). Each dataset has its own
//! epochs, and all that holds for one dataset holds for each of them. Rows and shards are numbered
//! dataset after dataset, so that every row has one number; the next good row of the same dataset
//! replaces a bad one.

mod bad_rows;
mod build;
mod config;
mod cost;
mod dataset;
mod lanes;
mod layout;
mod mix;
mod permutation;
mod report;
mod window;

#[cfg(test)]
mod tests;

pub use bad_rows::BadRows;
pub use build::Plan;
pub use config::PlanConfig;
pub use cost::Costs;
pub use lanes::LaneWindows;
pub use layout::{Layout, Place};
pub use mix::Mix;
pub use report::{CostReport, DatasetReport, RankMemory, Report};
pub use window::{Slot, Window, WindowGroup, file_order};
