//! A feature extractor initialised as a filter bank instead of at random: `filter_bank` of the audio
//! encoder.
//!
//! From the published initialisation the extractor needs hundreds of hours of speech to become a
//! filter bank. With an hour of speech and minutes of training, the targets computed in the meantime
//! lose most of the spectrum.

use std::f64::consts::{PI, TAU};

use understudy_pipelines::rng::Rng;

/// Returns a short-time Fourier transform, `[channels, 1, kernel]`: windowed cosines (the first half
/// of the channels) and sines (the second), at frequencies evenly spaced up to half the sample rate.
pub(super) fn fourier(shape: &[usize]) -> Vec<f32> {
    let (n_channels, kernel) = (shape[0], shape[2]);
    let n_frequencies = n_channels / 2;
    let window = window(kernel);
    let filter = |channel: usize| {
        let frequency = ((channel % n_frequencies) as f64 + 0.5) / n_frequencies as f64 / 2.0;
        let shift = if channel < n_frequencies { 0.25 } else { 0.0 };
        let centre = (kernel - 1) as f64 / 2.0;
        let taps = window.iter().enumerate().map(|(tap, weight)| {
            weight * (TAU * (frequency * (tap as f64 - centre) + shift)).sin()
        });
        let taps: Vec<f64> = taps.collect();
        // The same energy as a random filter with the published standard deviation.
        let norm = (taps.iter().map(|tap| tap * tap).sum::<f64>() / 2.0).sqrt();
        taps.into_iter().map(move |tap| (tap / norm) as f32)
    };
    (0..n_channels).flat_map(filter).collect()
}

/// Returns low-pass filters, `[channels, inputs, kernel]`: every output is a random mixture of the
/// inputs, N(0, `std`²), equal at each tap except for the window.
pub(super) fn low_pass(shape: &[usize], std: f64, rng: &mut Rng) -> Vec<f32> {
    let window = window(shape[2]);
    let mut values = Vec::with_capacity(shape.iter().product());
    for _ in 0..shape[0] * shape[1] {
        let weight = rng.normal() * std;
        values.extend(window.iter().map(|tap| (weight * tap) as f32));
    }
    values
}

/// Returns Hann's window without the zeros at its ends.
fn window(kernel: usize) -> Vec<f64> {
    let phase = |tap: usize| PI * (tap + 1) as f64 / (kernel + 1) as f64;
    (0..kernel).map(|tap| phase(tap).sin().powi(2)).collect()
}

#[cfg(test)]
mod tests {
    use understudy_pipelines::rng::Purpose;

    use super::*;

    /// Returns the gain of `filter` at a frequency in periods per tap.
    fn gain(filter: &[f32], frequency: f64) -> f64 {
        let sum = |phase: fn(f64) -> f64| {
            let products = filter
                .iter()
                .enumerate()
                .map(|(tap, &weight)| f64::from(weight) * phase(TAU * frequency * tap as f64));
            products.sum::<f64>()
        };
        sum(f64::cos).hypot(sum(f64::sin))
    }

    #[test]
    fn fourier_filters_peak_at_their_own_frequency() {
        let (n_channels, kernel) = (32, 64);
        let filters = fourier(&[n_channels, 1, kernel]);
        for (channel, filter) in filters.chunks(kernel).enumerate() {
            let own = channel % 16;
            let gains: Vec<f64> = (0..16)
                .map(|f| gain(filter, (f64::from(f) + 0.5) / 32.0))
                .collect();
            for (other, found) in gains.iter().enumerate() {
                assert!(
                    other == own || *found < 0.01 * gains[own],
                    "{channel} {other} {gains:?}"
                );
            }
            let energy: f32 = filter.iter().map(|tap| tap * tap).sum();
            assert!((energy - 2.0).abs() < 1e-5, "{energy}");
        }
        // Cosine and sine of one frequency are orthogonal.
        let product: f32 = (0..kernel)
            .map(|tap| filters[tap] * filters[16 * kernel + tap])
            .sum();
        assert!(product.abs() < 1e-5, "{product}");
    }

    #[test]
    fn low_pass_filters_keep_low_frequencies_and_mix_at_random() {
        let mut rng = Rng::for_name(1, Purpose::Init, "a.name");
        let filters = low_pass(&[50, 40, 8], 0.5, &mut rng);
        for filter in filters.chunks(8) {
            assert!(gain(filter, 0.5) < 0.01 * gain(filter, 0.0), "{filter:?}");
        }
        let peaks: Vec<f64> = filters
            .chunks(8)
            .map(|filter| f64::from(filter[4]))
            .collect();
        let square = peaks.iter().map(|x| x * x).sum::<f64>() / peaks.len() as f64;
        assert!((square.sqrt() / 0.485 - 1.0).abs() < 0.05, "{square}");
        assert!(peaks.iter().any(|&x| x < 0.0) && peaks.iter().any(|&x| x > 0.0));
    }
}
