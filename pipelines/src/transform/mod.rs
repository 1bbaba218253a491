//! Crop, resize, flip, colour: a decoded picture becomes the pixels of a training sample.
//!
//! All of it follows torchvision on PIL pictures, whose results the published recipes rest on.

#[cfg(test)]
mod against_pillow;
mod color;
mod crop;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod photos;
mod resize;
pub mod wave;
#[cfg(test)]
mod wave_golden;
#[cfg(test)]
mod wave_quality;

use crate::config::ImageConfig;
use crate::decode::Picture;
use crate::rng::{Purpose, Rng, SampleKey};
use color::ColorJitter;
pub use resize::resize;

/// A random view of `picture`: colour jitter, then flip, then a random crop.
///
/// Gives RGB8, rows top to bottom, `[size, size, 3]`. What is drawn depends on `key` and the
/// picture's size alone. The jitter is that of the whole picture (its mean sets the contrast), but
/// only the window's pixels are made.
pub fn train_crop(picture: &Picture, config: &ImageConfig, key: SampleKey) -> Vec<u8> {
    let mut rng = Rng::for_sample(key, Purpose::Crop, 0);
    let mut window = crop::random_window(
        picture.width,
        picture.height,
        config.crop_scale,
        config.crop_ratio,
        &mut rng,
    );
    let flip = config.flip_prob > 0.0
        && Rng::for_sample(key, Purpose::Flip, 0).uniform() < config.flip_prob;
    if flip {
        // The window is drawn on the flipped picture; here it is cut from the one before the flip.
        window.left = picture.width - window.left - window.width;
    }
    let (side, filter) = (config.size, config.filter);
    let mut pixels = if config.color_jitter > 0.0 {
        let mut rng = Rng::for_sample(key, Purpose::ColorJitter, 0);
        let jitter = ColorJitter::draw(config.color_jitter, &mut rng);
        let jittered = jitter.apply(picture, window);
        resize::resize_window(&jittered, jittered.whole(), side, side, filter)
    } else {
        resize::resize_window(picture, window, side, side, filter)
    };
    if flip {
        for row in pixels.chunks_exact_mut(3 * side as usize) {
            flip_row(row);
        }
    }
    pixels
}

/// The middle of `picture` for evaluation: the short side to `eval_resize`, then the centre.
///
/// Gives RGB8, rows top to bottom, `[size, size, 3]`; `eval_resize` is at least `size`.
pub fn eval_crop(picture: &Picture, config: &ImageConfig) -> Vec<u8> {
    let strip = crop::bounded_strip(picture.width, picture.height);
    let (width, height) = crop::short_side_to(strip.width, strip.height, config.eval_resize);
    let resized = Picture {
        width,
        height,
        pixels: resize::resize_window(picture, strip, width, height, config.filter),
    };
    resized.cut(crop::centre_window(width, height, config.size))
}

/// Mirrors one row of RGB pixels.
fn flip_row(row: &mut [u8]) {
    let (pixels, _) = row.as_chunks_mut::<3>();
    pixels.reverse();
}
