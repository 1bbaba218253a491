//! Encodes an image as a row: checks, resizes and encodes it again if asked, and hashes it.

use image::codecs::jpeg::JpegEncoder;
use xxhash_rust::xxh3::xxh3_64;

use crate::SampleError;
use crate::config::{Filter, Limits};
use crate::decode::{DecodedImage, decode_image, read_header};
use crate::transform::resize;
use crate::write::encode::row::Row;
use crate::write::options::{Check, Encode, ImageOptions};

/// Returns the row of an encoded image. The name is unchanged even if the bytes become a JPEG: it
/// identifies the file in its folder, and readers detect the format from the bytes.
pub(crate) fn image_row(
    bytes: Vec<u8>,
    path: Option<String>,
    label: Option<i64>,
    options: &ImageOptions,
    limits: &Limits,
) -> Result<Row, SampleError> {
    let (bytes, width, height) = prepare(bytes, options, limits)?;
    let xxh3 = xxh3_64(&bytes);
    Ok(Row::Image {
        bytes,
        path,
        width,
        height,
        label,
        xxh3,
    })
}

/// Returns the bytes to store, width and height.
fn prepare(
    bytes: Vec<u8>,
    options: &ImageOptions,
    limits: &Limits,
) -> Result<(Vec<u8>, u32, u32), SampleError> {
    let header = read_header(&bytes, limits)?;
    let short = header.width.min(header.height);
    let target = options.resize_short.filter(|&target| target < short);
    if target.is_none() && options.encode == Encode::Keep {
        if options.check == Check::Header {
            return Ok((bytes, header.width, header.height));
        }
        let image = decode_image(&bytes, limits)?;
        return Ok((bytes, image.width, image.height));
    }
    let mut image = decode_image(&bytes, limits)?;
    if let Some(target) = target {
        let (width, height) = short_side_to(target, image.width, image.height);
        image = resize(&image, width, height, Filter::Bicubic);
    }
    let jpeg = encode_jpeg(&image, options.quality)?;
    Ok((jpeg, image.width, image.height))
}

/// Returns width and height with a short side of `target` pixels, the long side rounded.
fn short_side_to(target: u32, width: u32, height: u32) -> (u32, u32) {
    let long = |long: u32, short: u32| {
        let scaled = f64::from(long) * f64::from(target) / f64::from(short);
        scaled.round() as u32
    };
    if width <= height {
        (target, long(height, width))
    } else {
        (long(width, height), target)
    }
}

fn encode_jpeg(image: &DecodedImage, quality: u8) -> Result<Vec<u8>, SampleError> {
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, quality)
        .encode(
            &image.pixels,
            image.width,
            image.height,
            image::ExtendedColorType::Rgb8,
        )
        .map_err(|e| SampleError::Unsupported(format!("as JPEG: {e}")))?;
    Ok(jpeg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resize_sets_short_side_and_keeps_aspect_ratio() {
        assert_eq!(short_side_to(256, 500, 375), (341, 256));
        assert_eq!(short_side_to(256, 375, 500), (256, 341));
        assert_eq!(short_side_to(32, 64, 64), (32, 32));
    }
}
