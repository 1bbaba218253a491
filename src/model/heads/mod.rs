//! Heads: from an encoder's output to predictions or classes.

pub(super) mod classifier;
pub(super) mod decoder;
pub(super) mod text;
