//! Pictures: JPEG, PNG, WebP, GIF, BMP and TIFF become RGB.
//!
//! Colours come out as Pillow's `ImageOps.exif_transpose(picture).convert("RGB")` gives them: grey
//! is repeated, palettes are looked up, alpha is dropped (not blended), CMYK is multiplied out, an
//! animation gives its first frame. The one difference: 16-bit values are divided by 257 and
//! rounded, where Pillow cuts off the low byte of RGB and clips grey to white.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, RgbImage};

use super::jpeg;
use crate::config::Limits;
use crate::error::SampleError;

/// A decoded picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// In pixels, at least 1.
    pub width: u32,
    /// In pixels, at least 1.
    pub height: u32,
    /// RGB8, rows top to bottom: `[height, width, 3]`.
    pub pixels: Vec<u8>,
}

/// What a file says of itself before it is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// By its first bytes: names and content types are not asked.
    pub format: ImageFormat,
    /// Of the picture that decoding gives: upright, by the file's EXIF orientation.
    pub width: u32,
    /// Of the picture that decoding gives.
    pub height: u32,
    /// Most memory that decoding will hold at once, the picture included, the file not.
    pub decode_bytes: u64,
}

/// Reads size and kind, and checks them against `limits`, without decoding any pixel.
pub fn read_header(bytes: &[u8], limits: &Limits) -> Result<Header, SampleError> {
    contained(|| match format_of(bytes, limits)? {
        ImageFormat::Jpeg => Ok(jpeg::read_header(bytes, limits)?.header()),
        format => Ok(open(bytes, format, limits)?.1),
    })
}

/// Decodes a picture within `limits` and turns it upright.
pub fn decode_image(bytes: &[u8], limits: &Limits) -> Result<Picture, SampleError> {
    contained(|| match format_of(bytes, limits)? {
        ImageFormat::Jpeg => {
            let header = jpeg::read_header(bytes, limits)?;
            let (width, height) = header.coded_size();
            let pixels = jpeg::decode(bytes, &header)?;
            upright(width, height, pixels, header.orientation)
        }
        format => {
            let (mut decoder, _) = open(bytes, format, limits)?;
            let orientation = decoder.orientation().map_err(sample_error)?;
            let picture = DynamicImage::from_decoder(decoder).map_err(sample_error)?;
            let (width, height) = (picture.width(), picture.height());
            upright(width, height, picture.into_rgb8().into_raw(), orientation)
        }
    })
}

/// Runs a decoder as if it could panic: a bug that one file in a million meets costs that file.
pub(super) fn contained<T>(
    decode: impl FnOnce() -> Result<T, SampleError>,
) -> Result<T, SampleError> {
    catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<String>().map(String::as_str);
        let words = words.or_else(|| panic.downcast_ref::<&str>().copied());
        let words = words.unwrap_or("no reason given");
        Err(SampleError::Decode(format!(
            "the decoder panicked: {words}"
        )))
    })
}

fn format_of(bytes: &[u8], limits: &Limits) -> Result<ImageFormat, SampleError> {
    if bytes.is_empty() {
        return Err(SampleError::Empty);
    }
    within("bytes", bytes.len() as u64, limits.bytes)?;
    image::guess_format(bytes).map_err(|_| {
        let start: Vec<String> = bytes
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        SampleError::Unsupported(format!("not a picture: it begins {}", start.join(" ")))
    })
}

/// A decoder that has read its header, for all formats but JPEG.
fn open<'a>(
    bytes: &'a [u8],
    format: ImageFormat,
    limits: &Limits,
) -> Result<(impl ImageDecoder + use<'a>, Header), SampleError> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    // Against files that ask for memory in other ways than by their size, such as metadata that
    // unpacks to gigabytes. No pixel takes more than 16 bytes.
    let mut decoder_limits = image::Limits::no_limits();
    decoder_limits.max_alloc = Some(limits.pixels.saturating_mul(16).saturating_add(64 << 20));
    reader.limits(decoder_limits);
    let mut decoder = reader.into_decoder().map_err(sample_error)?;
    let (width, height) = decoder.dimensions();
    let n_pixels = check_size(width, height, limits)?;
    // Next to the pixels as stored: those converted to RGB, which turning upright replaces, and
    // for WebP its planes and for GIF the palette's indices.
    let decode_bytes = decoder.total_bytes() + (3 + 4) * n_pixels;
    let orientation = decoder.orientation().map_err(sample_error)?;
    let (width, height) = upright_size(width, height, orientation);
    Ok((
        decoder,
        Header {
            format,
            width,
            height,
            decode_bytes,
        },
    ))
}

/// The number of pixels, if it is above 0 and within the limit.
pub(super) fn check_size(width: u32, height: u32, limits: &Limits) -> Result<u64, SampleError> {
    let n_pixels = u64::from(width) * u64::from(height);
    if n_pixels == 0 {
        return Err(SampleError::Decode(format!(
            "a picture of {width} × {height} pixels"
        )));
    }
    within("pixels", n_pixels, limits.pixels)?;
    Ok(n_pixels)
}

pub(super) fn within(what: &'static str, found: u64, limit: u64) -> Result<(), SampleError> {
    if found > limit {
        return Err(SampleError::Limit { what, found, limit });
    }
    Ok(())
}

/// Width and height once `orientation` is undone.
pub(super) fn upright_size(width: u32, height: u32, orientation: Orientation) -> (u32, u32) {
    match orientation {
        Orientation::Rotate90
        | Orientation::Rotate270
        | Orientation::Rotate90FlipH
        | Orientation::Rotate270FlipH => (height, width),
        _ => (width, height),
    }
}

fn upright(
    width: u32,
    height: u32,
    pixels: Vec<u8>,
    orientation: Orientation,
) -> Result<Picture, SampleError> {
    if orientation == Orientation::NoTransforms {
        return Ok(Picture {
            width,
            height,
            pixels,
        });
    }
    let turned = RgbImage::from_raw(width, height, pixels)
        .ok_or_else(|| SampleError::Decode("fewer pixels than the header says".to_owned()))?;
    let mut turned = DynamicImage::ImageRgb8(turned);
    turned.apply_orientation(orientation);
    let (width, height) = (turned.width(), turned.height());
    Ok(Picture {
        width,
        height,
        pixels: turned.into_rgb8().into_raw(),
    })
}

fn sample_error(error: ImageError) -> SampleError {
    match error {
        ImageError::Unsupported(error) => SampleError::Unsupported(error.to_string()),
        error => SampleError::Decode(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_a_decoder_is_a_bad_sample() {
        let result = contained::<Picture>(|| panic!("index {} out of range", 7));
        let reason = "the decoder panicked: index 7 out of range".to_owned();
        assert_eq!(result, Err(SampleError::Decode(reason)));
    }
}
