//! Log-mel spectrogram and its statistics: audio features without learning.

use realfft::RealFftPlanner;

/// Number of filters, from 0 Hz to half the sample rate, evenly spaced in mel.
pub(super) const N_MELS: usize = 80;
/// Window of 25 ms and hop of 10 ms, as usual in speech recognition.
const WINDOW_SECS: f64 = 0.025;
const HOP_SECS: f64 = 0.010;
/// Added before the logarithm, so that silence is finite.
const FLOOR: f32 = 1e-6;

/// Returns mean and standard deviation over time of each channel of [`frames`], `[2 · 80]`.
pub(super) fn statistics(waveform: &[f32], sample_rate_hz: u32) -> Vec<f32> {
    let frames = frames(waveform, sample_rate_hz);
    let n = (frames.len() / N_MELS) as f64;
    let (mut sums, mut squares) = (vec![0.0; N_MELS], vec![0.0; N_MELS]);
    for (i, &value) in frames.iter().enumerate() {
        let value = f64::from(value);
        sums[i % N_MELS] += value;
        squares[i % N_MELS] += value * value;
    }
    let means = sums.iter().map(|sum| sum / n);
    let deviations = sums
        .iter()
        .zip(&squares)
        .map(|(sum, square)| (square / n - (sum / n).powi(2)).max(0.0).sqrt());
    means.chain(deviations).map(|value| value as f32).collect()
}

/// Returns the log-mel spectrogram, `[frames · 80]`, with a frame every 10 ms.
///
/// `waveform` is mono at `sample_rate_hz`; if shorter than a window it is zero-padded. Hann window,
/// power spectrum, triangular filters on the HTK mel scale.
pub(super) fn frames(waveform: &[f32], sample_rate_hz: u32) -> Vec<f32> {
    let rate = f64::from(sample_rate_hz);
    let window_len = (WINDOW_SECS * rate) as usize;
    let hop = ((HOP_SECS * rate) as usize).max(1);
    let fft = RealFftPlanner::<f32>::new().plan_fft_forward(window_len.next_power_of_two());
    let hann: Vec<f32> = (0..window_len)
        .map(|n| {
            let phase = std::f64::consts::TAU * n as f64 / window_len as f64;
            (0.5 - 0.5 * phase.cos()) as f32
        })
        .collect();
    let filters = filters(fft.len(), rate);
    let (mut input, mut spectrum) = (fft.make_input_vec(), fft.make_output_vec());

    let n_frames = waveform.len().saturating_sub(window_len) / hop + 1;
    let mut values = Vec::with_capacity(n_frames * N_MELS);
    for frame in 0..n_frames {
        let from = &waveform[frame * hop..];
        input.fill(0.0);
        for ((to, from), weight) in input.iter_mut().zip(from).zip(&hann) {
            *to = from * weight;
        }
        fft.process(&mut input, &mut spectrum)
            .expect("the buffers have the planned length");
        values.extend(filters.iter().map(|filter| {
            let weighted = filter
                .iter()
                .map(|&(bin, weight)| weight * spectrum[bin].norm_sqr());
            (weighted.sum::<f32>() + FLOOR).ln()
        }));
    }
    values
}

/// Returns each filter's bins of an FFT of `n_fft` points, with their weights.
fn filters(n_fft: usize, rate: f64) -> Vec<Vec<(usize, f32)>> {
    let mel = |hz: f64| 2595.0 * (1.0 + hz / 700.0).log10();
    let hz = |mel: f64| 700.0 * (10_f64.powf(mel / 2595.0) - 1.0);
    let edge = |i: usize| hz(mel(rate / 2.0) * i as f64 / (N_MELS + 1) as f64);
    (0..N_MELS)
        .map(|i| {
            let (low, peak, high) = (edge(i), edge(i + 1), edge(i + 2));
            let weight = |bin: usize| {
                let at = bin as f64 * rate / n_fft as f64;
                ((at - low) / (peak - low)).min((high - at) / (high - peak))
            };
            (0..=n_fft / 2)
                .map(|bin| (bin, weight(bin) as f32))
                .filter(|&(_, weight)| weight > 0.0)
                .collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(hz: f32, n: usize) -> Vec<f32> {
        (0..n)
            .map(|i| (std::f32::consts::TAU * hz * i as f32 / 16_000.0).sin())
            .collect()
    }

    #[test]
    fn tone_is_loudest_in_its_channel_with_low_deviation() {
        for hz in [500.0, 1000.0, 3000.0] {
            let found = statistics(&tone(hz, 16_000), 16_000);
            let (means, deviations) = found.split_at(N_MELS);
            let loudest = (0..N_MELS).max_by(|&a, &b| means[a].total_cmp(&means[b]));
            let mel =
                2595.0 * (1.0 + hz / 700.0).log10() / (2595.0 * (1.0 + 8000.0_f32 / 700.0).log10());
            let expected = (mel * 81.0).round() as usize - 1;
            let loudest = loudest.expect("channels");
            assert!(
                loudest.abs_diff(expected) <= 1,
                "{hz} Hz in channel {loudest}"
            );
            assert!(deviations[loudest] < 0.01, "{}", deviations[loudest]);
        }
    }

    #[test]
    fn silence_and_click_are_finite() {
        for waveform in [vec![0.0; 8000], vec![1.0], Vec::new()] {
            let found = statistics(&waveform, 16_000);
            assert_eq!(found.len(), 2 * N_MELS);
            assert!(found.iter().all(|value| value.is_finite()));
        }
    }
}
