//! Sets in real stores, and what happens to them on bad days: see `support/lab`.
#![allow(
    clippy::print_stdout,
    clippy::allow_attributes,
    reason = "the fault table, and why a test is skipped"
)]

#[path = "../support/lab/mod.rs"]
mod lab;
#[path = "../support/mod.rs"]
mod support;

mod cache;
mod fault_lab;
mod faults;
mod laboratory;
mod reading;
mod refusals;
mod sets;
mod verdict;

/// The process of [`lab::reader::watch`]; nothing to do in any other.
#[test]
fn reader() {
    lab::reader::read();
}
