//! Understudy trains encoders by data2vec (1.0 and 2.0): a teacher encodes the full input; a
//! student encodes a masked one and predicts the teacher's features at the masked positions.
//!
//! Data come from [`understudy_pipelines`]; tensors are burn's, on libtorch or on flex.

pub mod checkpoint;
pub mod config;
pub mod demo;
pub mod device;
pub mod doctor;
pub mod embed;
pub mod evaluate;
pub mod exit_code;
pub mod init;
pub mod interop;
#[cfg(feature = "libtorch")]
pub mod libtorch;
pub mod model;
pub mod objective;
pub mod optim;
pub mod params;
mod progress_bar;
mod signals;
pub mod train;

/// Lock for tests that draw flex's random numbers: the process has one generator, and no other test
/// may draw after a test has seeded it.
#[cfg(test)]
static GENERATOR: std::sync::Mutex<()> = std::sync::Mutex::new(());
