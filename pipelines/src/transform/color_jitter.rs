//! Colour jitter: brightness, contrast and saturation as torchvision's `ColorJitter` on PIL images.

use super::crop::Window;
use crate::decode::DecodedImage;
use crate::rng::Rng;

/// One change by a factor: 1 leaves the image unchanged, 0 removes all brightness, contrast or
/// saturation.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Change {
    Brightness(f32),
    Contrast(f32),
    Saturation(f32),
}

/// Three changes, in the order in which they are applied.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ColorJitter([Change; 3]);

impl ColorJitter {
    /// Draws factors uniform in 1 ± `strength`, not below 0, and a random order.
    pub(super) fn draw(strength: f32, rng: &mut Rng) -> ColorJitter {
        let strength = f64::from(strength);
        let mut factor = || rng.range((1.0 - strength).max(0.0), 1.0 + strength) as f32;
        let mut changes = [
            Change::Brightness(factor()),
            Change::Contrast(factor()),
            Change::Saturation(factor()),
        ];
        rng.shuffle(&mut changes);
        ColorJitter(changes)
    }

    /// Returns the pixels of `window`, changed as in the full image.
    pub(super) fn apply(&self, image: &DecodedImage, window: Window) -> DecodedImage {
        let mut pixels = image.cut(window);
        for (i, change) in self.0.iter().enumerate() {
            match *change {
                Change::Brightness(factor) => scale_around(0, factor, &mut pixels),
                Change::Contrast(factor) => {
                    // Contrast scales around the mean of the full image after the changes before it.
                    let mean = mean_luma(image, &self.0[..i]);
                    scale_around(mean, factor, &mut pixels);
                }
                Change::Saturation(factor) => saturate(factor, &mut pixels),
            }
        }
        DecodedImage {
            width: window.width,
            height: window.height,
            pixels,
        }
    }
}

/// Scales every value's distance from `centre` by `factor`.
fn scale_around(centre: u8, factor: f32, pixels: &mut [u8]) {
    let table: [u8; 256] = std::array::from_fn(|value| blend(centre, value as u8, factor));
    for value in pixels {
        *value = table[usize::from(*value)];
    }
}

/// Scales every pixel's distance from its own grey by `factor`.
fn saturate(factor: f32, pixels: &mut [u8]) {
    for pixel in pixels.as_chunks_mut::<3>().0 {
        let grey = luma(*pixel);
        *pixel = pixel.map(|value| blend(grey, value, factor));
    }
}

/// Returns the mean grey of an image after `changes`, rounded.
fn mean_luma(image: &DecodedImage, changes: &[Change]) -> u8 {
    let mut sum = 0_u64;
    let mut changed = Vec::new();
    for pixels in image.pixels.chunks(3 << 13) {
        changed.clear();
        changed.extend_from_slice(pixels);
        for change in changes {
            match *change {
                Change::Brightness(factor) => scale_around(0, factor, &mut changed),
                Change::Saturation(factor) => saturate(factor, &mut changed),
                Change::Contrast(_) => unreachable!("contrast comes once"),
            }
        }
        let (pixels, _) = changed.as_chunks::<3>();
        sum += u64::from(
            pixels
                .iter()
                .map(|&pixel| u32::from(luma(pixel)))
                .sum::<u32>(),
        );
    }
    let n_pixels = image.pixels.len() / 3;
    (sum as f64 / n_pixels as f64 + 0.5) as u8
}

/// Computes Rec. 601 luma in 16-bit fixed point, as PIL converts RGB to L.
fn luma([r, g, b]: [u8; 3]) -> u8 {
    ((u32::from(r) * 19_595 + u32::from(g) * 38_470 + u32::from(b) * 7_471 + 0x8000) >> 16) as u8
}

/// Computes `from` + `factor` · (`to` − `from`), fraction cut off, clamped to 0–255.
fn blend(from: u8, to: u8, factor: f32) -> u8 {
    let (from, to) = (f32::from(from), f32::from(to));
    (from + factor * (to - from)) as u8 // `as` clamps and cuts off.
}

#[cfg(test)]
impl ColorJitter {
    /// Describes the changes for `tests/fixtures/pillow.py`.
    pub(super) fn described(&self) -> serde_json::Value {
        let pairs = self.0.map(|change| match change {
            Change::Brightness(factor) => serde_json::json!(["brightness", factor]),
            Change::Contrast(factor) => serde_json::json!(["contrast", factor]),
            Change::Saturation(factor) => serde_json::json!(["saturation", factor]),
        });
        pairs.into_iter().collect()
    }
}
