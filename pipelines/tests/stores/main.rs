//! Sets in real stores, and what happens to them on bad days: see `support/lab`.

#[path = "../support/mod.rs"]
mod support;

mod faults;
mod laboratory;
mod reading;
mod refusals;
mod sets;

/// The process of [`support::lab::reader::watch`]; nothing to do in any other.
#[test]
fn reader() {
    support::lab::reader::read();
}
