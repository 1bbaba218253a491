//! Decodes, resamples and normalises the audio of a row.

use std::time::Instant;

use super::{Sample, SampleMedia, SequenceCrop, Task, Worker};
use crate::config::AudioConfig;
use crate::rng::{Purpose, Rng};
use crate::{Result, SampleError, decode, transform};

impl Worker {
    /// Returns the waveform at the config's rate, normalised over its full length and then, in
    /// training, cropped to `max_frames`. The collator gives it its final length and its masks.
    pub(super) fn audio(
        &self,
        task: &Task,
        config: &AudioConfig,
        max_frames: usize,
    ) -> Result<Result<Sample, SampleError>> {
        let start = Instant::now();
        let checked = self.check(task).and_then(|(bytes, metadata)| {
            let header = decode::read_audio_header(bytes, &self.limits)?;
            Ok((bytes, metadata, header))
        });
        let (bytes, metadata, header) = match checked {
            Ok(checked) => checked,
            Err(bad) => {
                self.recorder.decode.record(start.elapsed(), true);
                return Ok(Err(bad));
            }
        };
        let checking = start.elapsed();

        let resampled_bytes = transform::waveform::resample_bytes(
            header.decode_bytes,
            header.sample_rate_hz,
            config.sample_rate_hz,
        );
        let _taken = self.share.take(header.decode_bytes + resampled_bytes, || {
            let n_frames = header.n_frames.map_or("?".to_owned(), |n| n.to_string());
            format!("decoding the {n_frames} frames in {}", self.place(task))
        })?;
        let start = Instant::now();
        let decoded = decode::decode_audio(bytes, &self.limits, None);
        self.recorder
            .decode
            .record(checking + start.elapsed(), decoded.is_err());
        let waveform = match decoded {
            Ok(waveform) => waveform,
            Err(bad) => return Ok(Err(bad)),
        };

        let start = Instant::now();
        let mut frames = transform::waveform::resample(waveform, config.sample_rate_hz);
        transform::waveform::normalise(&mut frames, config.normalize_eps);
        let crop = self.crop(task, config, max_frames, frames);
        self.recorder
            .transform
            .record(start.elapsed(), crop.is_err());
        Ok(crop.map(|crop| Sample {
            media: SampleMedia::Waveform(crop),
            masks: Vec::new(),
            metadata,
        }))
    }

    /// Checks the length and crops to `max_frames`.
    fn crop(
        &self,
        task: &Task,
        config: &AudioConfig,
        max_frames: usize,
        frames: Vec<f32>,
    ) -> Result<SequenceCrop<f32>, SampleError> {
        let least = if self.evaluate {
            config.window_frames
        } else {
            config.min_frames
        };
        if frames.len() < least {
            return Err(SampleError::Short {
                what: "frames",
                found: frames.len() as u64,
                least: least as u64,
            });
        }
        if self.evaluate && frames.len() > max_frames {
            return Err(SampleError::Limit {
                what: "number of frames",
                found: frames.len() as u64,
                limit: max_frames as u64,
            });
        }
        let place = Rng::for_sample(self.key(task), Purpose::Crop, 0).next_u64();
        Ok(SequenceCrop::new(frames, max_frames, place))
    }
}
