//! JPEG, the most common format, on a path of its own.
//!
//! The decoder is zune-jpeg, called directly: it writes RGB into our buffer. Through `image` it
//! would copy the file and read its headers three times.

use image::ImageFormat;
use image::metadata::Orientation;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::header::{Header, check_size, upright_size};
use crate::error::SampleError;
use crate::limits::Limits;

/// Size, orientation and memory, read from the segments before the first scan.
pub(super) struct JpegHeader {
    frame: Frame,
    pub(super) orientation: Orientation,
    decode_bytes: u64,
    /// Byte offset of the first scan.
    scan: usize,
}

/// A frame header (SOF).
#[derive(Clone, Copy)]
struct Frame {
    width: u16,
    height: u16,
    n_components: u8,
    progressive: bool,
}

impl JpegHeader {
    /// Converts to the header that all formats share.
    pub(super) fn header(&self) -> Header {
        let (width, height) = self.coded_size();
        let (width, height) = upright_size(width, height, self.orientation);
        let decode_bytes = self.decode_bytes;
        Header {
            format: ImageFormat::Jpeg,
            width,
            height,
            decode_bytes,
        }
    }

    /// Returns width and height as coded, before the image is turned upright.
    pub(super) fn coded_size(&self) -> (u32, u32) {
        (self.frame.width.into(), self.frame.height.into())
    }
}

/// Decodes the pixels to RGB8, `[height, width, 3]` as coded.
pub(super) fn decode(bytes: &[u8], header: &JpegHeader) -> Result<Vec<u8>, SampleError> {
    // The decoder fills the missing rows of a truncated file with grey. Entropy-coded data cannot
    // contain the end marker, so a file without one behind the first scan is truncated (an EXIF
    // thumbnail before the scan has an end marker of its own).
    if !bytes[header.scan..]
        .windows(2)
        .rev()
        .any(|pair| pair == [0xFF, 0xD9])
    {
        return Err(SampleError::Decode("truncated: no end of image".to_owned()));
    }
    let options = DecoderOptions::default()
        .set_strict_mode(false) // Stray bytes between segments are common and harmless.
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    let (width, height) = header.coded_size();
    let mut pixels = vec![0; 3 * width as usize * height as usize];
    decoder
        .decode_into(&mut pixels)
        .map_err(|error| SampleError::Decode(error.to_string()))?;
    Ok(pixels)
}

/// Reads the segments up to the first scan and checks the size against `limits`.
pub(super) fn read_header(bytes: &[u8], limits: &Limits) -> Result<JpegHeader, SampleError> {
    let mut frame = None;
    let mut orientation = None;
    let mut segments = Segments { bytes, at: 2 };
    loop {
        let (marker, body) = segments.next()?;
        match marker {
            // Frames, without the three other markers of that range: DHT, JPG and DAC.
            0xC0..=0xCF if ![0xC4, 0xC8, 0xCC].contains(&marker) => {
                frame = Some(read_frame(marker, body)?);
            }
            0xE1 => {
                let exif = body.strip_prefix(b"Exif\0\0");
                orientation = orientation.or_else(|| exif.and_then(Orientation::from_exif_chunk));
            }
            0xDA => {
                let frame = frame.ok_or_else(|| damaged("scan before the frame header"))?;
                let n_components = *body.first().ok_or_else(|| damaged("empty scan header"))?;
                let orientation = orientation.unwrap_or(Orientation::NoTransforms);
                let n_pixels = check_size(frame.width.into(), frame.height.into(), limits)?;
                let in_one_scan = !frame.progressive && n_components == frame.n_components;
                let decode_bytes = peak_memory(frame, n_pixels, in_one_scan, orientation);
                return Ok(JpegHeader {
                    frame,
                    orientation,
                    decode_bytes,
                    scan: segments.at,
                });
            }
            0xD9 => return Err(damaged("end marker before the first scan")),
            _ => {}
        }
    }
}

/// Estimates the peak memory in bytes: the image, a row of blocks, the tables, and the larger of two
/// things that are not held together: the coefficients of all components (if the image has several
/// scans), and the copy that is turned upright.
fn peak_memory(frame: Frame, n_pixels: u64, in_one_scan: bool, orientation: Orientation) -> u64 {
    let row_of_blocks = 400 * u64::from(frame.width) + (128 << 10);
    let coefficients = if in_one_scan {
        0
    } else {
        2 * u64::from(frame.n_components) * n_pixels
    };
    let turned = if orientation == Orientation::NoTransforms {
        0
    } else {
        3 * n_pixels
    };
    3 * n_pixels + row_of_blocks + coefficients.max(turned)
}

fn read_frame(marker: u8, body: &[u8]) -> Result<Frame, SampleError> {
    let [precision, h1, h0, w1, w0, n_components, ..] = *body else {
        return Err(damaged("short frame header"));
    };
    if precision != 8 || !(0xC0..=0xC2).contains(&marker) {
        let what = format!(
            "JPEG with {precision} bits per value, coding process {}",
            marker - 0xC0
        );
        return Err(SampleError::Unsupported(what));
    }
    Ok(Frame {
        width: u16::from_be_bytes([w1, w0]),
        height: u16::from_be_bytes([h1, h0]),
        n_components,
        progressive: marker == 0xC2,
    })
}

/// An iterator over the segments of a JPEG file.
struct Segments<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Segments<'a> {
    /// Returns the next segment's marker and body; skips stray bytes before it.
    fn next(&mut self) -> Result<(u8, &'a [u8]), SampleError> {
        let cut_off = || damaged("truncated before the first scan");
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let stray = rest
                .iter()
                .position(|&byte| byte == 0xFF)
                .ok_or_else(cut_off)?;
            let fill = rest[stray..]
                .iter()
                .position(|&byte| byte != 0xFF)
                .ok_or_else(cut_off)?;
            let marker = rest[stray + fill];
            self.at += stray + fill + 1;
            match marker {
                0x00 | 0x01 | 0xD0..=0xD8 => {} // No segment follows these.
                0xD9 => return Ok((marker, &[])),
                _ => {
                    let rest = &self.bytes[self.at..];
                    let length = rest.first_chunk().ok_or_else(cut_off)?;
                    let length = usize::from(u16::from_be_bytes(*length));
                    let body = rest.get(2..length).ok_or_else(cut_off)?;
                    self.at += length;
                    return Ok((marker, body));
                }
            }
        }
    }
}

fn damaged(reason: &str) -> SampleError {
    SampleError::Decode(reason.to_owned())
}
