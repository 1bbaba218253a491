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

        let crop_bytes = if self.evaluate {
            transform::eval_crop_bytes(header.width, header.height, image)
        } else {
            transform::train_crop_bytes(header.width, header.height, image)
        };
        let bytes_needed = header.decode_bytes.max(crop_bytes);
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
}
