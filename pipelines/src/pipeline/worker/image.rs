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

        let crop_bytes = if self.evaluate {
            transform::eval_crop_bytes(header.width, header.height, config)
        } else {
            transform::train_crop_bytes(header.width, header.height, config)
        };
        let bytes_needed = header.decode_bytes.max(crop_bytes);
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
}
