//! A streaming trainer for self-supervised encoders.

pub mod ema;
pub mod import;
pub mod init;
pub mod model;
pub mod objective;
pub mod optim;
pub mod params;
pub mod schedule;
