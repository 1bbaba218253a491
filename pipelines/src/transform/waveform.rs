//! Audio transforms: resampling, and normalisation to mean 0 and variance 1.

use std::cell::RefCell;

use rubato::audioadapter_buffers::direct::SequentialSlice;
use rubato::{Fft, FixedSync, Resampler, WindowFunction};

use crate::decode::Waveform;

/// Length of the filter, in frames at the lower of the two rates: 64 ms at 16 kHz. It sets how sharp
/// the edge at the end of the band is.
const FILTER_FRAMES: usize = 1024;

/// Resamples to `to_hz` without delay; n frames become ⌈n · `to_hz` / rate⌉.
///
/// Uses an FFT and a linear-phase filter (a sinc under a squared Blackman–Harris window). Measured
/// with tones from 44.1, 48, 32, 22.05, 11.025 and 8 kHz to 16 kHz, and compared with soxr 1.1 in its
/// default quality (HQ). The table has the worst of the six rates; frequencies are in units of half
/// the lower rate, h:
///
/// | | here | soxr |
/// |---|---|---|
/// | level within 0.1 dB | up to 0.980 h | up to 0.932 h |
/// | ripple up to 0.9 h | 0.00002 dB | 0.008 dB |
/// | aliases from 1.0 h on, images and noise | −134 dB | −127 dB |
///
/// `cargo test -p understudy-pipelines --test resample_quality -- --nocapture` measures both again
/// (soxr where `UNDERSTUDY_PYTHON` can import it). The result depends on the arguments alone, not on
/// the thread or on earlier calls; processors with other vector units may differ in the last bit.
///
/// # Panics
///
/// If a rate is 0.
pub fn resample(waveform: Waveform, to_hz: u32) -> Vec<f32> {
    let Waveform {
        sample_rate_hz: from_hz,
        frames,
    } = waveform;
    if from_hz == to_hz || frames.is_empty() {
        return frames;
    }
    let n_frames = (frames.len() as u64 * u64::from(to_hz)).div_ceil(u64::from(from_hz));
    let input = SequentialSlice::new(&frames, 1, frames.len());
    let input = input.expect("one channel of all frames");
    RESAMPLER.with_borrow_mut(|last| {
        if last
            .as_ref()
            .is_none_or(|last| last.rates != (from_hz, to_hz))
        {
            *last = Some(RateConverter::new(from_hz, to_hz));
        }
        let RateConverter { fft, .. } = last.as_mut().expect("just made");
        let resampled = fft.process_all(&input, frames.len(), None);
        let resampled = resampled.expect("buffers of one channel and enough frames");
        let mut resampled = resampled.take_data();
        resampled.resize(n_frames as usize, 0.0); // The crate's own count is rounded in floats.
        resampled
    })
}

/// Returns the memory of [`resample`] in bytes, for audio whose decoding takes `decode_bytes`.
pub fn resample_bytes(decode_bytes: u64, from_hz: u32, to_hz: u32) -> u64 {
    decode_bytes * u64::from(to_hz) / u64::from(from_hz.max(1))
}

thread_local! {
    /// The resampler of the last pair of rates: a dataset has few rates, and the tables of a resampler
    /// cost milliseconds.
    static RESAMPLER: RefCell<Option<RateConverter>> = const { RefCell::new(None) };
}

/// A resampler from one rate to another.
struct RateConverter {
    rates: (u32, u32),
    fft: Fft<f32>,
}

impl RateConverter {
    fn new(from_hz: u32, to_hz: u32) -> Self {
        let (from, to) = (from_hz as usize, to_hz as usize);
        // `block` is the smallest number of output frames that takes an integer number of input
        // frames; a chunk is an even number of blocks, so that the middle of the filter is a frame.
        let block = to / greatest_common_divisor(from, to);
        let chunk = FILTER_FRAMES * to.div_ceil(from).max(1);
        let chunk = block * chunk.div_ceil(block).next_multiple_of(2);
        let window = WindowFunction::BlackmanHarris2;
        let fft = Fft::new_custom(from, to, chunk, 1, 1, window, FixedSync::Output);
        Self {
            rates: (from_hz, to_hz),
            fft: fft.expect("rates and chunk above 0"),
        }
    }
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 {
        a
    } else {
        greatest_common_divisor(b, a % b)
    }
}

/// Normalises `frames` in place to mean 0 and variance 1: (x − mean) / √(variance + eps), with the
/// biased variance.
///
/// fairseq has an eps of 1e-5, Hugging Face 1e-7. Constant input, such as silence, becomes zeros.
pub fn normalise(frames: &mut [f32], eps: f64) {
    let n = frames.len() as f64;
    let mean = sum(frames, |frame| frame) / n;
    let scale = 1.0 / (sum(frames, |frame| (frame - mean).powi(2)) / n + eps).sqrt();
    for frame in frames {
        *frame = ((f64::from(*frame) - mean) * scale) as f32;
    }
}

/// Sums `f` over all frames in eight independent sums: a single one would wait for each addition.
fn sum(frames: &[f32], f: impl Fn(f64) -> f64) -> f64 {
    let mut sums = [0.0; 8];
    let (chunks, rest) = frames.as_chunks::<8>();
    for chunk in chunks {
        for (sum, &frame) in sums.iter_mut().zip(chunk) {
            *sum += f(f64::from(frame));
        }
    }
    let rest = rest.iter().map(|&frame| f(f64::from(frame)));
    sums.iter().sum::<f64>() + rest.sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constant_and_empty_input_normalise_to_zeros() {
        for value in [0.0, 0.25, -1.0e-3] {
            let mut frames = [value; 1000];
            normalise(&mut frames, 1e-5);
            assert!(frames.iter().all(|frame| *frame == 0.0));
        }
        normalise(&mut [], 1e-5);
    }
}
