//! Encoded pictures become crops and masks.

use std::time::Instant;

use super::{Sample, SampleMedia, Task, Work};
use crate::config::ImageConfig;
use crate::{Result, SampleError, decode, transform};

impl Work {
    /// The crop of a picture, and in training its masks.
    pub(super) fn picture(
        &self,
        task: &Task,
        image: &ImageConfig,
    ) -> Result<Result<Sample, SampleError>> {
        let start = Instant::now();
        let checked = self.check(task).and_then(|(bytes, beside)| {
            // Nothing that fails here is ever decoded.
            Ok((bytes, beside, decode::read_header(bytes, &self.limits)?))
        });
        let (bytes, beside, header) = match checked {
            Ok(checked) => checked,
            Err(bad) => {
                self.recorder.decode.record(start.elapsed(), true);
                return Ok(Err(bad));
            }
        };
        let checking = start.elapsed();

        let bytes_needed = header
            .decode_bytes
            .max(self.transform_bytes(image, &header));
        let _taken = self.share.take(bytes_needed, || {
            let (width, height) = (header.width, header.height);
            format!(
                "decoding the {width}×{height} picture in {}",
                self.place(task)
            )
        })?;
        let start = Instant::now();
        let decoded = decode::decode_image(bytes, &self.limits);
        self.recorder
            .decode
            .record(checking + start.elapsed(), decoded.is_err());
        let picture = match decoded {
            Ok(picture) => picture,
            Err(bad) => return Ok(Err(bad)),
        };

        let key = self.key(task);
        let start = Instant::now();
        let pixels = if self.evaluate {
            transform::eval_crop(&picture, image)
        } else {
            transform::train_crop(&picture, image, key)
        };
        self.recorder.transform.record(start.elapsed(), false);

        let mut masks = Vec::new();
        if !self.evaluate {
            let start = Instant::now();
            masks.resize(self.mask.n_masks() * self.mask.n_patches().unwrap_or(0), 0);
            self.mask.draw(key, &mut masks);
            self.recorder.mask.record(start.elapsed(), false);
        }
        Ok(Ok(Sample {
            media: SampleMedia::Pixels(pixels),
            masks,
            beside,
        }))
    }

    /// The decoded picture and what is made on the way to its crop, at most.
    fn transform_bytes(&self, image: &ImageConfig, header: &decode::Header) -> u64 {
        let (width, height) = (u64::from(header.width), u64::from(header.height));
        let (between, result) = if self.evaluate {
            // The short side becomes `eval_resize`; strips are cut at sixteen times that.
            let side = u64::from(image.eval_resize);
            let longer = |long: u64, short: u64| side * long.min(16 * short) / short;
            let resized_width = if width <= height {
                side
            } else {
                longer(width, height)
            };
            (
                resized_width * height,
                side * longer(width.max(height), width.min(height)),
            )
        } else {
            // Colour jitter copies the window; then the horizontal pass keeps the window's height.
            let jittered = if image.color_jitter > 0.0 {
                width * height
            } else {
                0
            };
            (
                jittered + u64::from(image.size) * height,
                u64::from(image.size).pow(2),
            )
        };
        3 * (width * height + between + result)
    }
}
