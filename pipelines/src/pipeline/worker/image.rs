//! Decodes and crops the image of a row, and draws its masks.

use std::time::Instant;

use super::{Sample, SampleMedia, Task, Worker};
use crate::config::ImageConfig;
use crate::{Result, SampleError, decode, transform};

impl Worker {
    /// Returns the crop of an image and, in training, its masks.
    pub(super) fn image(
        &self,
        task: &Task,
        config: &ImageConfig,
    ) -> Result<Result<Sample, SampleError>> {
        let start = Instant::now();
        let checked = self.check(task).and_then(|(bytes, metadata)| {
            // Rows that fail here are never decoded.
            Ok((bytes, metadata, decode::read_header(bytes, &self.limits)?))
        });
        let (bytes, metadata, header) = match checked {
            Ok(checked) => checked,
            Err(bad) => {
                self.recorder.decode.record(start.elapsed(), true);
                return Ok(Err(bad));
            }
        };
        let checking = start.elapsed();

        let bytes_needed = header
            .decode_bytes
            .max(self.transform_bytes(config, &header));
        let _taken = self.share.take(bytes_needed, || {
            let (width, height) = (header.width, header.height);
            format!(
                "decoding the {width}×{height} image in {}",
                self.place(task)
            )
        })?;
        let start = Instant::now();
        let decoded = decode::decode_image(bytes, &self.limits);
        self.recorder
            .decode
            .record(checking + start.elapsed(), decoded.is_err());
        let image = match decoded {
            Ok(image) => image,
            Err(bad) => return Ok(Err(bad)),
        };

        let key = self.key(task);
        let start = Instant::now();
        let pixels = if self.evaluate {
            transform::eval_crop(&image, config)
        } else {
            transform::train_crop(&image, config, key)
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
            metadata,
        }))
    }

    /// Returns the most bytes that the decoded image, the buffers of the transform and the crop take.
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
