//! Decoders: encoded images, audio and text become samples.
//!
//! Every function here is pure: its result depends on the bytes alone. A bad file costs its own
//! sample, never the process.

mod audio;
mod header;
mod image;
mod jpeg;
mod text;

pub use self::audio::{AudioHeader, Waveform, decode_audio, read_audio_header};
pub use self::header::Header;
pub use self::image::{DecodedImage, decode_image, read_header};
pub use self::text::text;
