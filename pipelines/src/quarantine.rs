//! The file of bad samples.
