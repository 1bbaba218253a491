//! The decoders on odd and bad files, compared with other decoders.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::allow_attributes,
    reason = "a test's own files are there"
)]

mod audio;
mod images;
#[path = "../support/skip.rs"]
mod skip;
