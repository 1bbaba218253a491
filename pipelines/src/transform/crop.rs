//! Crop windows: torchvision's rules for random and centre crops.

use crate::decode::DecodedImage;
use crate::rng::Rng;

/// Attempts before the fallback of [`random_window`].
const N_TRIES: usize = 10;

/// Largest long side / short side that [`bounded_strip`] leaves.
const LONGEST_STRIP: u32 = 16;

/// A rectangle of an image, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) left: u32,
    pub(super) top: u32,
    pub(super) width: u32,
    pub(super) height: u32,
}

/// Draws the window of torchvision's `RandomResizedCrop`: its area is a share of the image's, uniform
/// in `scale`; the logarithm of width / height is uniform between those of `ratio`; its place is
/// uniform.
///
/// If ten draws do not fit, returns the largest centred window whose width / height is in `ratio`.
pub(super) fn random_window(
    width: u32,
    height: u32,
    scale: [f64; 2],
    ratio: [f64; 2],
    rng: &mut Rng,
) -> Window {
    let area = f64::from(width) * f64::from(height);
    for _ in 0..N_TRIES {
        let target_area = area * rng.range(scale[0], scale[1]);
        let aspect = rng.range(ratio[0].ln(), ratio[1].ln()).exp();
        let crop_width = (target_area * aspect).sqrt().round_ties_even() as u32;
        let crop_height = (target_area / aspect).sqrt().round_ties_even() as u32;
        if (1..=width).contains(&crop_width) && (1..=height).contains(&crop_height) {
            return Window {
                top: rng.below((height - crop_height + 1) as usize) as u32,
                left: rng.below((width - crop_width + 1) as usize) as u32,
                width: crop_width,
                height: crop_height,
            };
        }
    }
    let own_ratio = f64::from(width) / f64::from(height);
    let (crop_width, crop_height) = if own_ratio < ratio[0] {
        let crop_height = (f64::from(width) / ratio[0]).round_ties_even();
        (width, (crop_height as u32).max(1))
    } else if own_ratio > ratio[1] {
        let crop_width = (f64::from(height) * ratio[1]).round_ties_even();
        ((crop_width as u32).max(1), height)
    } else {
        (width, height)
    };
    Window {
        left: (width - crop_width) / 2,
        top: (height - crop_height) / 2,
        width: crop_width,
        height: crop_height,
    }
}

/// Returns `(width, height)` with the short side `side` and the same ratio, the long side rounded
/// down.
pub(super) fn short_side_to(width: u32, height: u32, side: u32) -> (u32, u32) {
    let long =
        |long: u32, short: u32| (u64::from(side) * u64::from(long) / u64::from(short)) as u32;
    if width <= height {
        (side, long(height, width))
    } else {
        (long(width, height), side)
    }
}

/// Returns the centred square of `side`, its offset rounded half to even, as in Python.
pub(super) fn centre_window(width: u32, height: u32, side: u32) -> Window {
    let offset = |length: u32| (f64::from(length - side) / 2.0).round_ties_even() as u32;
    Window {
        left: offset(width),
        top: offset(height),
        width: side,
        height: side,
    }
}

/// Returns the window of the full image, or of its middle if it is more than sixteen times as long as
/// wide: with its short side resized, an image one pixel wide would take gigabytes, of which all but
/// the centre is thrown away.
pub(super) fn bounded_strip(width: u32, height: u32) -> Window {
    let kept_width = width.min(height.saturating_mul(LONGEST_STRIP));
    let kept_height = height.min(width.saturating_mul(LONGEST_STRIP));
    Window {
        left: (width - kept_width) / 2,
        top: (height - kept_height) / 2,
        width: kept_width,
        height: kept_height,
    }
}

impl DecodedImage {
    /// Returns the window of the full image.
    pub(super) fn full_window(&self) -> Window {
        Window {
            left: 0,
            top: 0,
            width: self.width,
            height: self.height,
        }
    }

    /// Iterates over the rows of a window, top to bottom, RGB8.
    pub(super) fn rows(&self, window: Window) -> impl Iterator<Item = &[u8]> {
        let first = 3 * window.left as usize;
        self.pixels
            .chunks_exact(3 * self.width as usize)
            .skip(window.top as usize)
            .take(window.height as usize)
            .map(move |row| &row[first..first + 3 * window.width as usize])
    }

    /// Copies the pixels of a window: RGB8, `[height, width, 3]`.
    pub(super) fn cut(&self, window: Window) -> Vec<u8> {
        let mut pixels = Vec::with_capacity(3 * window.width as usize * window.height as usize);
        self.rows(window)
            .for_each(|row| pixels.extend_from_slice(row));
        pixels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounded_strip_cuts_only_long_strips() {
        let strip = bounded_strip(40_000, 2);
        let middle = Window {
            left: 19_984,
            top: 0,
            width: 32,
            height: 2,
        };
        assert_eq!(strip, middle);
        assert_eq!(short_side_to(strip.width, strip.height, 256), (4096, 256));
        let photo = bounded_strip(500, 375);
        assert_eq!((photo.left, photo.width, photo.height), (0, 500, 375));
    }
}
