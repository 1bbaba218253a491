//! Encoded recordings become normalised waves.

use std::time::Instant;

use super::{Sample, SampleMedia, Task, Window, Work};
use crate::config::AudioConfig;
use crate::rng::{Purpose, Rng};
use crate::{Result, SampleError, decode, transform};

impl Work {
    /// The wave at the recipe's rate, normalised as a whole; in training no longer than the recipe
    /// allows. It gets its final length, and its masks, with the batch.
    pub(super) fn wave(
        &self,
        task: &Task,
        config: &AudioConfig,
        most_frames: usize,
    ) -> Result<Result<Sample, SampleError>> {
        let start = Instant::now();
        let checked = self.check(task).and_then(|(bytes, beside)| {
            let header = decode::read_audio_header(bytes, &self.limits)?;
            Ok((bytes, beside, header))
        });
        let (bytes, beside, header) = match checked {
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
        let wave = match decoded {
            Ok(wave) => wave,
            Err(bad) => return Ok(Err(bad)),
        };

        let start = Instant::now();
        let mut frames = transform::waveform::resample(wave, config.sample_rate_hz);
        transform::waveform::normalise(&mut frames, config.normalize_eps);
        let window = self.window(task, config, most_frames, frames);
        self.recorder
            .transform
            .record(start.elapsed(), window.is_err());
        Ok(window.map(|window| Sample {
            media: SampleMedia::Wave(window),
            masks: Vec::new(),
            beside,
        }))
    }

    fn window(
        &self,
        task: &Task,
        config: &AudioConfig,
        most_frames: usize,
        frames: Vec<f32>,
    ) -> Result<Window<f32>, SampleError> {
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
        if self.evaluate && frames.len() > most_frames {
            return Err(SampleError::Limit {
                what: "number of frames",
                found: frames.len() as u64,
                limit: most_frames as u64,
            });
        }
        let place = Rng::for_sample(self.key(task), Purpose::Crop, 0).next_u64();
        Ok(Window::new(frames, most_frames, place))
    }
}
