//! Datasets in real stores, with faults injected: see `support/lab`.
#![allow(
    clippy::print_stdout,
    clippy::allow_attributes,
    reason = "the fault table, and the reasons of skipped tests"
)]

#[path = "../support/lab/mod.rs"]
mod lab;
#[path = "../support/mod.rs"]
mod support;

mod cache;
mod datasets;
mod fault_lab;
mod faults;
mod proxy;
mod reading;
mod refusals;
mod secrets;
mod verdict;

/// The child process of [`lab::reader::watch`]. Does nothing in other processes.
#[test]
fn reader() {
    lab::reader::read();
}
