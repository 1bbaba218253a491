//! Encoded media become samples.
