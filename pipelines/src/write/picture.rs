//! One sample becomes one row: read, checked, resized or re-encoded if asked, hashed.

use std::path::Path;

use image::codecs::jpeg::JpegEncoder;
use xxhash_rust::xxh3::xxh3_64;

use super::labels::Labels;
use super::source::{Body, RawSample};
use super::{Check, Encode, Recipe};
use crate::config::{Filter, Limits};
use crate::decode::{Picture, decode_image, read_header};
use crate::transform::resize;
use crate::{Error, Result, SampleError};

/// One row of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) bytes: Vec<u8>,
    pub(crate) path: Option<String>,
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) label: Option<i64>,
    pub(crate) xxh3: u64,
}

/// A sample that cannot become a row.
#[derive(Debug)]
pub(crate) struct BadSample {
    pub(crate) place: String,
    pub(crate) reason: SampleError,
}

/// Makes the row. The outer error stops the run (a file that cannot be read is not the fault of
/// its bytes), the inner one puts the sample into quarantine.
pub(crate) fn to_row(
    sample: RawSample,
    recipe: &Recipe,
    labels: &Labels,
) -> Result<Result<Row, BadSample>> {
    let limits = Limits::default();
    let bytes = match sample.body {
        Body::Bytes(bytes) => Ok(bytes),
        Body::Bad(reason) => Err(reason),
        Body::File(_, found) if found > limits.bytes => Err(SampleError::Limit {
            what: "bytes",
            found,
            limit: limits.bytes,
        }),
        Body::File(path, _) => Ok(read_file(&path)?),
    };
    let row = bytes.and_then(|bytes| {
        let label = labels.resolve(&sample.label)?;
        let (bytes, width, height, encoded) = prepare(bytes, recipe, &limits)?;
        let path = sample
            .path
            .map(|path| if encoded { as_jpeg(&path) } else { path });
        let xxh3 = xxh3_64(&bytes);
        Ok(Row {
            bytes,
            path,
            width,
            height,
            label,
            xxh3,
        })
    });
    Ok(row.map_err(|reason| BadSample {
        place: sample.place,
        reason,
    }))
}

fn read_file(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|source| Error::Io {
        path: path.to_owned(),
        source,
    })
}

/// The bytes to store, width, height, and whether they were encoded anew.
fn prepare(
    bytes: Vec<u8>,
    recipe: &Recipe,
    limits: &Limits,
) -> Result<(Vec<u8>, u32, u32, bool), SampleError> {
    if bytes.is_empty() {
        return Err(SampleError::Empty);
    }
    let header = read_header(&bytes, limits)?;
    let short = header.width.min(header.height);
    let target = recipe.resize_short.filter(|&target| target < short);
    if target.is_none() && recipe.encode == Encode::Keep {
        if recipe.check == Check::Header {
            return Ok((bytes, header.width, header.height, false));
        }
        let picture = decode_image(&bytes, limits)?;
        return Ok((bytes, picture.width, picture.height, false));
    }
    let mut picture = decode_image(&bytes, limits)?;
    if let Some(target) = target {
        let (width, height) = short_side_to(target, picture.width, picture.height);
        picture = resize(&picture, width, height, Filter::Bicubic);
    }
    let jpeg = encode_jpeg(&picture, recipe.quality)?;
    Ok((jpeg, picture.width, picture.height, true))
}

/// Width and height with the short side at `target` pixels, the long side to the nearest pixel.
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

fn encode_jpeg(picture: &Picture, quality: u8) -> Result<Vec<u8>, SampleError> {
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, quality)
        .encode(
            &picture.pixels,
            picture.width,
            picture.height,
            image::ExtendedColorType::Rgb8,
        )
        .map_err(|e| SampleError::Unsupported(format!("as JPEG: {e}")))?;
    Ok(jpeg)
}

/// `a/b.png` → `a/b.jpg`: the name follows the bytes.
fn as_jpeg(path: &str) -> String {
    let base = path.rfind('/').map_or(0, |slash| slash + 1);
    match path[base..].rfind('.') {
        Some(dot) if dot > 0 => format!("{}.jpg", &path[..base + dot]),
        _ => format!("{path}.jpg"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_side_is_met_and_the_shape_kept() {
        assert_eq!(short_side_to(256, 500, 375), (341, 256));
        assert_eq!(short_side_to(256, 375, 500), (256, 341));
        assert_eq!(short_side_to(32, 64, 64), (32, 32));
    }

    #[test]
    fn names_follow_the_bytes() {
        assert_eq!(as_jpeg("a.b/c.png"), "a.b/c.jpg");
        assert_eq!(as_jpeg("a.b/c"), "a.b/c.jpg");
        assert_eq!(as_jpeg("a/.c"), "a/.c.jpg");
    }
}
