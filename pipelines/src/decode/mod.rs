//! Encoded media become samples.
//!
//! Everything here is a pure function of the bytes. A file can be as bad as it likes: it costs its
//! own sample, never the process.

mod audio;
mod image;
mod jpeg;
mod text;

#[cfg(test)]
mod pictures;
#[cfg(test)]
mod sounds;

pub use self::audio::{AudioHeader, Wave, decode_audio, read_audio_header};
pub use self::image::{Header, Picture, decode_image, read_header};
pub use self::text::text;
