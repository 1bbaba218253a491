//! Transforms: a decoded image or waveform becomes a training sample.
//!
//! Crop, resize, flip and colour jitter follow torchvision on PIL images, which the published
//! recipes were trained with; resizing follows Pillow 13.

mod color_jitter;
mod crop;
mod resize;
#[cfg(test)]
mod tests;
pub mod waveform;

use crate::config::ImageConfig;
use crate::decode::DecodedImage;
use crate::rng::{Purpose, Rng, SampleKey};
use color_jitter::ColorJitter;
pub use resize::resize;

/// Makes the random training crop of an image: colour jitter, then flip, then random resized crop.
///
/// Returns RGB8, rows top to bottom, `[size, size, 3]`. The result depends on `key`, the config and
/// the image alone. The jitter is that of the full image (its mean sets the contrast), but only the
/// window's pixels are computed.
pub fn train_crop(image: &DecodedImage, config: &ImageConfig, key: SampleKey) -> Vec<u8> {
    let mut rng = Rng::for_sample(key, Purpose::Crop, 0);
    let mut window = crop::random_window(
        image.width,
        image.height,
        config.crop_scale,
        config.crop_ratio,
        &mut rng,
    );
    let flip = config.flip_prob > 0.0
        && Rng::for_sample(key, Purpose::Flip, 0).uniform() < config.flip_prob;
    if flip {
        // The window is drawn on the flipped image; here it is cut from the image before the flip.
        window.left = image.width - window.left - window.width;
    }
    let (side, filter) = (config.size, config.filter);
    let mut pixels = if config.color_jitter > 0.0 {
        let mut rng = Rng::for_sample(key, Purpose::ColorJitter, 0);
        let jitter = ColorJitter::draw(config.color_jitter, &mut rng);
        let jittered = jitter.apply(image, window);
        resize::resize_window(&jittered, jittered.full_window(), side, side, filter)
    } else {
        resize::resize_window(image, window, side, side, filter)
    };
    if flip {
        for row in pixels.chunks_exact_mut(3 * side as usize) {
            flip_row(row);
        }
    }
    pixels
}

/// Makes the evaluation crop of an image: the short side resized to `eval_resize`, then the centre.
///
/// Returns RGB8, rows top to bottom, `[size, size, 3]`; `eval_resize` must be at least `size`.
pub fn eval_crop(image: &DecodedImage, config: &ImageConfig) -> Vec<u8> {
    let strip = crop::bounded_strip(image.width, image.height);
    let (width, height) = crop::short_side_to(strip.width, strip.height, config.eval_resize);
    let resized = DecodedImage {
        width,
        height,
        pixels: resize::resize_window(image, strip, width, height, config.filter),
    };
    resized.cut(crop::centre_window(width, height, config.size))
}

/// Returns the peak memory of [`train_crop`] in bytes for an image of `width` × `height`: the decoded
/// image, the jittered window, the image between the two passes of the resize, and the crop.
pub fn train_crop_bytes(width: u32, height: u32, config: &ImageConfig) -> u64 {
    let (n_pixels, size) = (area([width, height]), u64::from(config.size));
    let jittered = if config.color_jitter > 0.0 {
        n_pixels
    } else {
        0
    };
    // With the width first, the image between the passes has `size` columns and the window's rows.
    // With the height first it is smaller: see the test `train_crop_bytes_bound_every_window`.
    let between = size * u64::from(height);
    3 * (n_pixels + jittered + between + size * size)
}

/// Returns the peak memory of [`eval_crop`] in bytes for an image of `width` × `height`: the decoded
/// image, the image between the two passes of the resize, and the resized image.
pub fn eval_crop_bytes(width: u32, height: u32, config: &ImageConfig) -> u64 {
    let strip = crop::bounded_strip(width, height);
    let (to_width, to_height) = crop::short_side_to(strip.width, strip.height, config.eval_resize);
    let resized = [to_width, to_height];
    let between = resize::between([strip.width, strip.height], resized);
    3 * (area([width, height]) + area(between) + area(resized))
}

/// Returns the number of pixels of `[width, height]`.
fn area([width, height]: [u32; 2]) -> u64 {
    u64::from(width) * u64::from(height)
}

/// Mirrors one row of RGB pixels.
fn flip_row(row: &mut [u8]) {
    let (pixels, _) = row.as_chunks_mut::<3>();
    pixels.reverse();
}
