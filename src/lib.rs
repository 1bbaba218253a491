//! Understudy trains encoders by data2vec (1.0 and 2.0): a teacher sees the whole input, a student
//! sees part of it and predicts the teacher's inner representation of the rest.
//!
//! Data come from [`understudy_pipelines`]; tensors are burn's, on libtorch or on flex.

pub mod config;
pub mod demo;
pub mod device;
pub mod doctor;
pub mod embed;
pub mod evaluate;
pub mod export;
pub mod import;
pub mod init;
#[cfg(feature = "libtorch")]
pub mod libtorch;
pub mod model;
mod new_folder;
pub mod objective;
pub mod optim;
pub mod params;
pub mod pretrained;
mod signals;
pub mod train;
pub mod weights;

/// Held by each test that draws from flex's random numbers: the process has one generator, and who
/// seeds it must not have others draw in between.
#[cfg(test)]
static GENERATOR: std::sync::Mutex<()> = std::sync::Mutex::new(());
