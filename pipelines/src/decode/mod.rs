//! Encoded media become samples.
//!
//! Everything here is a pure function of the bytes. A file can be as bad as it likes: it costs its
//! own sample, never the process.

mod image;
mod jpeg;

#[cfg(test)]
mod pictures;

pub use self::image::{Header, Picture, decode_image, read_header};
