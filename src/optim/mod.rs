//! `AdamW` with both published forms of eps, decay by parameter group, clipping by global norm and
//! state by parameter name; schedules; the teacher's moving average.

mod adamw;
mod config;
pub mod ema;
mod gradients;
mod schedule;

pub use adamw::{AdamW, Moments};
pub use config::{Decayed, EpsForm, OptimConfig};
pub use gradients::Gradients;
pub use schedule::{EmaSchedule, LrSchedule};
