//! Images: JPEG, PNG, WebP, GIF, BMP and TIFF become RGB.
//!
//! Colours equal those of Pillow's `ImageOps.exif_transpose(image).convert("RGB")`: grey is
//! repeated, palettes are looked up, alpha is dropped (not blended), CMYK is multiplied out, an
//! animation gives its first frame. One difference: 16-bit values are divided by 257 and rounded,
//! where Pillow cuts off the low byte of RGB and clips grey to white.

use std::io::Cursor;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, RgbImage};

use super::header::{Header, check_size, contained, unrecognized, upright_size, within};
use super::jpeg;
use crate::error::SampleError;
use crate::limits::Limits;

/// A decoded image: RGB8 pixels, upright.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodedImage {
    /// Width in pixels, at least 1.
    pub width: u32,
    /// Height in pixels, at least 1.
    pub height: u32,
    /// RGB8, rows top to bottom: `[height, width, 3]`.
    pub pixels: Vec<u8>,
}

/// Reads format and size, and checks them against `limits`, without decoding any pixel.
pub fn read_header(bytes: &[u8], limits: &Limits) -> Result<Header, SampleError> {
    contained(|| match format_of(bytes, limits)? {
        ImageFormat::Jpeg => Ok(jpeg::read_header(bytes, limits)?.header()),
        format => Ok(open(bytes, format, limits)?.1),
    })
}

/// Decodes an image within `limits` and turns it upright.
pub fn decode_image(bytes: &[u8], limits: &Limits) -> Result<DecodedImage, SampleError> {
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
            let image = DynamicImage::from_decoder(decoder).map_err(sample_error)?;
            let (width, height) = (image.width(), image.height());
            upright(width, height, image.into_rgb8().into_raw(), orientation)
        }
    })
}

/// Detects the format from the first bytes, after the check of the encoded size.
fn format_of(bytes: &[u8], limits: &Limits) -> Result<ImageFormat, SampleError> {
    if bytes.is_empty() {
        return Err(SampleError::Empty);
    }
    within("bytes", bytes.len() as u64, limits.bytes)?;
    image::guess_format(bytes).map_err(|_| unrecognized("image", bytes))
}

/// Opens a decoder that has read its header, for all formats but JPEG.
fn open<'a>(
    bytes: &'a [u8],
    format: ImageFormat,
    limits: &Limits,
) -> Result<(impl ImageDecoder + use<'a>, Header), SampleError> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    // For files that ask for memory in other ways than by their size, such as metadata that
    // unpacks to gigabytes. No pixel takes more than 16 bytes.
    let mut decoder_limits = image::Limits::no_limits();
    decoder_limits.max_alloc = Some(limits.pixels.saturating_mul(16).saturating_add(64 << 20));
    reader.limits(decoder_limits);
    let mut decoder = reader.into_decoder().map_err(sample_error)?;
    let (width, height) = decoder.dimensions();
    let n_pixels = check_size(width, height, limits)?;
    // The pixels as stored; those converted to RGB, which turning upright replaces; and the planes
    // of WebP or the palette indices of GIF.
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

/// Undoes `orientation` of RGB8 pixels.
fn upright(
    width: u32,
    height: u32,
    pixels: Vec<u8>,
    orientation: Orientation,
) -> Result<DecodedImage, SampleError> {
    if orientation == Orientation::NoTransforms {
        return Ok(DecodedImage {
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
    Ok(DecodedImage {
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
