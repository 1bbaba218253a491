//! Which rows, in which order: a pure function of layout, seed, epoch and policy.
//!
//! **Chunks.** A chunk is a row group, or a run of its rows where there are fewer than four row
//! groups per lane. Each epoch permutes the chunks with a generator keyed by (seed, epoch).
//!
//! **Slices and lanes.** The permuted chunks, laid end to end, are cut *by rows* into as many
//! slices as there are lanes, so that slices differ by one row at most. Lane `l` takes slice
//! `(l + epoch) mod lanes`: after `lanes` epochs every lane has walked exactly as many rows as any
//! other, so lanes drift apart by one row at most and never starve, however uneven the row groups
//! are. Dealing whole chunks would need no chunk to be read by two lanes, but lanes would drift
//! without bound, or the deal would depend on all epochs before. The price is `lanes - 1` chunks
//! per epoch that two lanes read: [`Report`] counts their bytes.
//!
//! **Windows.** Inside a slice, runs of about `window_chunks` chunks are pooled and their rows
//! shuffled together. A lane goes from slice to slice and never ends; lanes may cross into the
//! next epoch at different steps, but each (epoch, row) comes once.
//!
//! **Bad rows.** A lane's order is a fixed sequence of rows; a bad one is stepped over and the next
//! good row takes its slot. Badness is a property of bytes, so the place of step `k` is found again
//! from the step and the bad rows met before it.
//!
//! **By cost.** Where a step is so many seconds or tokens, [`Costs`] weigh the rows: slices are cut
//! by cost, and a window's rows are cut into runs of neighbours in length, each a lane's share of
//! one step (`cost.rs`), which come in random order. The number of a window's runs depends on the
//! lengths of its rows alone, so the place of step `k` is arithmetic on lengths; it does not depend
//! on bad rows, which leave their run short.
//!
//! **Mixes.** Several sets have an order each, as if each were alone, but that its lanes take only
//! their share of a step from it: [`Mix`] says which set each sample of a lane is of (each run, in a
//! plan by cost), by arithmetic. Epochs are the sets' own, and all that holds for one set holds for
//! each of them. Rows and shards are numbered set after set, so that every row has one number; a bad
//! one is replaced by the next good row of its own set.

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
pub use lanes::LaneStream;
pub use layout::{Layout, Place};
pub use mix::Mix;
pub use report::{CostReport, RankMemory, Report, SetReport};
pub use window::{Slot, Window, WindowGroup, file_order};
