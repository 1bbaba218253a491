//! Masks: the positions that the student does not see.
//!
//! Masks are drawn on the CPU and per sample: a mask depends on the sample's key and its number of
//! positions, not on the device. Only [`spans::equalise`] compares the samples of a batch.

mod beit_block;
mod bert;
mod blocks;
mod check;
mod config;
mod draws;
mod inverse_block;
pub mod spans;
mod token_spans;
mod tokens;

pub use self::beit_block::BeitBlock;
pub use self::bert::Bert;
pub use self::blocks::Blocks;
pub use self::config::MaskConfig;
pub use self::inverse_block::InverseBlock;
pub use self::spans::Spans;
pub use self::token_spans::TokenSpans;
pub use self::tokens::Tokens;
