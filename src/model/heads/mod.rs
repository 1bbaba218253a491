//! Heads that turn an encoder's output into predictions or classes.

pub(super) mod classifier;
pub(super) mod decoder;
pub(super) mod text;
