//! Image headers, and the checks that every decoder shares: size limits and a guard against panics.

use std::panic::{AssertUnwindSafe, catch_unwind};

use image::ImageFormat;
use image::metadata::Orientation;

use crate::error::SampleError;
use crate::limits::Limits;

/// Format, size and memory of an image, read without decoding a pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Detected from the first bytes; names and content types are ignored.
    pub format: ImageFormat,
    /// Width of the decoded image in pixels, upright by the file's EXIF orientation.
    pub width: u32,
    /// Height of the decoded image in pixels, upright by the file's EXIF orientation.
    pub height: u32,
    /// Peak memory of decoding in bytes: the image is included, the encoded file is not.
    pub decode_bytes: u64,
}

/// Runs a decoder and turns a panic into [`SampleError::Decode`], so that a decoder's bug costs one
/// sample and not the process.
pub(super) fn contained<T>(
    decode: impl FnOnce() -> Result<T, SampleError>,
) -> Result<T, SampleError> {
    catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<String>().map(String::as_str);
        let message = message.or_else(|| panic.downcast_ref::<&str>().copied());
        let message = message.unwrap_or("no message");
        Err(SampleError::Decode(format!(
            "the decoder panicked: {message}"
        )))
    })
}

/// Returns the number of pixels, checked to be above 0 and within the limit.
pub(super) fn check_size(width: u32, height: u32, limits: &Limits) -> Result<u64, SampleError> {
    let n_pixels = u64::from(width) * u64::from(height);
    if n_pixels == 0 {
        return Err(SampleError::Decode(format!(
            "invalid image size: {width} × {height} pixels"
        )));
    }
    within("pixels", n_pixels, limits.pixels)?;
    Ok(n_pixels)
}

/// Checks one quantity against its limit.
pub(super) fn within(what: &'static str, found: u64, limit: u64) -> Result<(), SampleError> {
    if found > limit {
        return Err(SampleError::Limit { what, found, limit });
    }
    Ok(())
}

/// Returns width and height after `orientation` is undone.
pub(super) fn upright_size(width: u32, height: u32, orientation: Orientation) -> (u32, u32) {
    match orientation {
        Orientation::Rotate90
        | Orientation::Rotate270
        | Orientation::Rotate90FlipH
        | Orientation::Rotate270FlipH => (height, width),
        _ => (width, height),
    }
}

/// Builds the error for bytes that no decoder knows. `media` is `image` or `audio`.
pub(super) fn unrecognized(media: &str, bytes: &[u8]) -> SampleError {
    let start: Vec<String> = bytes
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    SampleError::Unsupported(format!(
        "unrecognized {media} format (first bytes {})",
        start.join(" ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoder_panic_is_a_bad_sample() {
        let result = contained::<Header>(|| panic!("index {} out of range", 7));
        let reason = "the decoder panicked: index 7 out of range".to_owned();
        assert_eq!(result, Err(SampleError::Decode(reason)));
    }
}
