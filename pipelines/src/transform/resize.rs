//! Antialiased resize, equal to Pillow 13's within a grey level.

use std::cell::RefCell;

use fast_image_resize::images::{CroppedImage, Image, ImageRef};
use fast_image_resize::{FilterType, IntoImageView, PixelType, ResizeAlg, ResizeOptions, Resizer};

use super::crop::Window;
use crate::config::Filter;
use crate::decode::DecodedImage;

/// Buffers that a thread reuses from image to image, so that a resize allocates its result only.
struct Scratch {
    resizer: Resizer,
    /// The image between the two passes.
    between: Vec<u8>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> =
        RefCell::new(Scratch { resizer: Resizer::new(), between: Vec::new() });
}

/// Resizes `image`, within one grey level of Pillow 13 on the same pixels (two levels for at most
/// 0.01 % of bicubic values).
///
/// # Panics
///
/// If a side, of the image or of the result, is 0.
pub fn resize(image: &DecodedImage, width: u32, height: u32, filter: Filter) -> DecodedImage {
    DecodedImage {
        width,
        height,
        pixels: resize_window(image, image.full_window(), width, height, filter),
    }
}

/// Resizes a window of `image`; returns RGB8 `[height, width, 3]`.
///
/// The window is cut out first: pixels outside it have no effect, as if it were an image of its own.
/// Then one pass per axis, rounded to 8 bits in between, in Pillow 13's order: see [`between`]. Given
/// both axes at once, the resizer would choose the order itself, so it is called once for each.
///
/// # Panics
///
/// If a side, of the window or of the result, is 0.
pub(super) fn resize_window(
    image: &DecodedImage,
    window: Window,
    width: u32,
    height: u32,
    filter: Filter,
) -> Vec<u8> {
    const FITS: &str = "an image's buffer and windows agree with its size";
    assert!(
        window.width.min(window.height).min(width).min(height) > 0,
        "an image with a side of 0"
    );
    let pixels = ImageRef::new(image.width, image.height, &image.pixels, PixelType::U8x3);
    let pixels = pixels.expect(FITS);
    let source = CroppedImage::new(
        &pixels,
        window.left,
        window.top,
        window.width,
        window.height,
    );
    let source = source.expect(FITS);
    let [between_width, between_height] = between([window.width, window.height], [width, height]);
    SCRATCH.with_borrow_mut(|Scratch { resizer, between }| {
        let n_bytes = 3 * between_width as usize * between_height as usize;
        if between.len() < n_bytes {
            between.resize(n_bytes, 0);
        }
        let between = Image::from_slice_u8(between_width, between_height, between, PixelType::U8x3);
        let mut between = between.expect(FITS);
        pass(resizer, &source, &mut between, filter);
        let mut resized = Image::new(width, height, PixelType::U8x3);
        pass(resizer, &between, &mut resized, filter);
        resized.into_vec()
    })
}

/// Returns `[width, height]` of the image between the two passes of a resize from `[width, height]`
/// to `[width, height]`.
///
/// Pillow 13 resizes the height first where it loses more than twice as many rows as columns are
/// lost (columns that are gained count as negative), and the width first everywhere else; so did
/// Pillow up to 12 everywhere. On photos the two orders differ by up to 19 grey levels.
pub(super) fn between(from: [u32; 2], to: [u32; 2]) -> [u32; 2] {
    let lost = |axis: usize| i64::from(from[axis]) - i64::from(to[axis]);
    let height_first = lost(1) > 0 && lost(1) > 2 * lost(0);
    if height_first {
        [from[0], to[1]]
    } else {
        [to[0], from[1]]
    }
}

/// Resizes along one axis: source and target differ in one side at most.
fn pass(resizer: &mut Resizer, from: &impl IntoImageView, to: &mut Image, filter: Filter) {
    let filter = match filter {
        Filter::Bilinear => FilterType::Bilinear,
        Filter::Bicubic => FilterType::CatmullRom,
    };
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter));
    resizer
        .resize(from, to, &options)
        .expect("both images are RGB8 without an empty side");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pillow 13.0's rule at its border: 2 · 10 columns lost against 20 and 21 rows.
    #[test]
    fn height_goes_first_if_it_loses_more_than_twice_as_much() {
        assert_eq!(between([50, 60], [40, 40]), [40, 60]);
        assert_eq!(between([50, 61], [40, 40]), [50, 40]);
        // Columns are gained: any lost row is enough, no lost row is not.
        assert_eq!(between([30, 41], [40, 40]), [30, 40]);
        assert_eq!(between([30, 40], [40, 40]), [40, 40]);
        assert_eq!(between([30, 35], [40, 40]), [40, 35]);
        // One axis alone.
        assert_eq!(between([40, 90], [40, 40]), [40, 40]);
        assert_eq!(between([90, 40], [40, 40]), [40, 40]);
    }
}
