//! Quality of the resampler, measured with tones: passband ripple, and what is left of tones that
//! must be removed.
//!
//! The same tones go through soxr if Python has it: `UNDERSTUDY_PYTHON` names the interpreter, else
//! `python3`. Frequencies are in units of h, half the lower of the two rates.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::allow_attributes,
    reason = "helpers of the tests"
)]

#[path = "support/skip.rs"]
mod skip;

use std::io::Write;
use std::process::{Command, Stdio};

use understudy_pipelines::decode::Waveform;
use understudy_pipelines::rng::{Purpose, Rng};
use understudy_pipelines::transform::waveform::resample;

use skip::skip;

const TO_HZ: u32 = 16_000;
const FROM_HZ: [u32; 6] = [44_100, 48_000, 32_000, 22_050, 11_025, 8_000];
/// Amplitude of every tone.
const LOUD: f64 = 0.5;

/// Returns the frequencies that should pass, and those above h, which the input can hold only if its
/// rate is the higher one.
fn tones(from_hz: u32) -> (Vec<f64>, Vec<f64>) {
    let nyquist = f64::from(from_hz) / f64::from(from_hz.min(TO_HZ));
    let levels = [0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85];
    let edge = (0..54).map(|i| 0.89 + 0.002 * f64::from(i));
    let beyond = [
        1.0, 1.002, 1.005, 1.01, 1.03, 1.1, 1.2, 1.35, 1.6, 1.9, 2.4, 2.9,
    ];
    let beyond = beyond.into_iter().filter(|tone| *tone < 0.99 * nyquist);
    (levels.into_iter().chain(edge).collect(), beyond.collect())
}

fn tone(frequency: f64, from_hz: u32) -> Vec<f32> {
    let step =
        std::f64::consts::PI * frequency * f64::from(from_hz.min(TO_HZ)) / f64::from(from_hz);
    let n = from_hz * 3 / 10;
    (0..n)
        .map(|i| (LOUD * (step * f64::from(i)).sin()) as f32)
        .collect()
}

/// Returns gain and phase of the tone in the middle of `frames`, and the RMS of everything else
/// relative to the original tone.
fn measure(frames: &[f32], frequency: f64, from_hz: u32) -> (f64, f64, f64) {
    let step = std::f64::consts::PI * frequency * f64::from(from_hz.min(TO_HZ)) / f64::from(TO_HZ);
    let middle = frames.len() / 4..frames.len() * 3 / 4;
    let n = middle.len() as f64;
    let samples = || {
        middle
            .clone()
            .map(|i| (step * i as f64, f64::from(frames[i])))
    };
    // Least squares of a sine and a cosine, which are not quite orthogonal.
    let sum = |of: &dyn Fn(f64, f64) -> f64| samples().map(|(t, y)| of(t, y)).sum::<f64>();
    let (ss, cc) = (sum(&|t, _| t.sin().powi(2)), sum(&|t, _| t.cos().powi(2)));
    let sc = sum(&|t, _| t.sin() * t.cos());
    let (sy, cy) = (sum(&|t, y| t.sin() * y), sum(&|t, y| t.cos() * y));
    let determinant = ss * cc - sc * sc;
    let (a, b) = (
        (sy * cc - cy * sc) / determinant,
        (cy * ss - sy * sc) / determinant,
    );
    let rest = sum(&|t, y| (y - a * t.sin() - b * t.cos()).powi(2));
    (
        a.hypot(b) / LOUD,
        b.atan2(a),
        (rest / n).sqrt() / (LOUD / 2_f64.sqrt()),
    )
}

fn decibels(ratio: f64) -> f64 {
    20.0 * ratio.max(1e-12).log10()
}

struct Quality {
    /// The last frequency up to which all tones are within 0.1 dB.
    passes_to: f64,
    /// Largest gain or loss of the tones up to 0.9 h, in dB.
    ripple_db: f64,
    /// Loudest component that was not in the input, or is left of tones from h on, in dB.
    rest_db: f64,
    /// Largest shift of a passing tone, in radians.
    phase: f64,
}

/// Measures the resampled tones; `outputs` are in the order of [`all_tones`].
fn quality(from_hz: u32, outputs: &[Vec<f32>]) -> Quality {
    let (passing, beyond) = tones(from_hz);
    let mut quality = Quality {
        passes_to: 1.0,
        ripple_db: 0.0,
        rest_db: f64::NEG_INFINITY,
        phase: 0.0,
    };
    for (&frequency, output) in passing.iter().zip(outputs) {
        let (gain, phase, rest) = measure(output, frequency, from_hz);
        if decibels(gain).abs() > 0.1 {
            quality.passes_to = quality.passes_to.min(frequency);
        }
        if frequency <= 0.9 {
            quality.ripple_db = quality.ripple_db.max(decibels(gain).abs());
            quality.rest_db = quality.rest_db.max(decibels(rest));
            quality.phase = quality.phase.max(phase.abs());
        }
    }
    for output in &outputs[passing.len()..] {
        let middle = &output[output.len() / 4..output.len() * 3 / 4];
        let power = middle.iter().map(|&y| f64::from(y).powi(2)).sum::<f64>() / middle.len() as f64;
        let left = power.sqrt() / (LOUD / 2_f64.sqrt());
        assert!(!beyond.is_empty());
        quality.rest_db = quality.rest_db.max(decibels(left));
    }
    quality
}

fn all_tones(from_hz: u32) -> Vec<Vec<f32>> {
    let (passing, beyond) = tones(from_hz);
    let all = passing.into_iter().chain(beyond);
    all.map(|frequency| tone(frequency, from_hz)).collect()
}

/// Resamples the tones by `soxr.resample`; `None` if Python has no soxr.
fn soxr(from_hz: u32, inputs: &[Vec<f32>]) -> Option<Vec<Vec<f32>>> {
    const SCRIPT: &str = "import sys, numpy, soxr\n\
        n, rate, to = map(int, sys.argv[1:])\n\
        tones = numpy.frombuffer(sys.stdin.buffer.read(), '<f4').reshape(n, -1)\n\
        for tone in tones:\n\
        \x20   out = soxr.resample(tone, rate, to)\n\
        \x20   sys.stdout.buffer.write(numpy.int32(len(out)).tobytes() + out.tobytes())";
    let python = std::env::var("UNDERSTUDY_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let numbers = [inputs.len() as u32, from_hz, TO_HZ].map(|number| number.to_string());
    let mut process = Command::new(python)
        .args(["-c", SCRIPT])
        .args(numbers)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let bytes: Vec<u8> = inputs
        .iter()
        .flatten()
        .flat_map(|frame| frame.to_le_bytes())
        .collect();
    let mut stdin = process.stdin.take().unwrap();
    let written = stdin.write_all(&bytes);
    drop(stdin);
    let output = process.wait_with_output().unwrap();
    if written.is_err() || !output.status.success() {
        return None;
    }
    let (values, _) = output.stdout.as_chunks::<4>();
    let mut values = values.iter();
    let outputs = inputs.iter().map(|_| {
        let n = i32::from_le_bytes(*values.next().unwrap()) as usize;
        let frames = values.by_ref().take(n);
        frames.map(|frame| f32::from_le_bytes(*frame)).collect()
    });
    Some(outputs.collect())
}

#[test]
fn resample_keeps_the_passband_and_removes_aliases() {
    for from_hz in FROM_HZ {
        let inputs = all_tones(from_hz);
        let print = |name: &str, quality: &Quality| {
            println!(
                "{from_hz} Hz, {name}: passes to {:.3} h, ripple {:.5} dB, rest {:.1} dB, phase {:.1e}",
                quality.passes_to, quality.ripple_db, quality.rest_db, quality.phase
            );
        };
        match soxr(from_hz, &inputs) {
            Some(outputs) => print("soxr", &quality(from_hz, &outputs)),
            None => skip(
                "soxr",
                "no soxr to compare with (UNDERSTUDY_PYTHON may name a Python with it)",
            ),
        }
        let outputs = inputs.into_iter().map(|frames| {
            let waveform = Waveform {
                sample_rate_hz: from_hz,
                frames,
            };
            resample(waveform, TO_HZ)
        });
        let quality = quality(from_hz, &outputs.collect::<Vec<_>>());
        print("here", &quality);
        assert!(quality.passes_to >= 0.97, "{from_hz} Hz");
        assert!(quality.ripple_db <= 0.001, "{from_hz} Hz");
        assert!(quality.rest_db <= -110.0, "{from_hz} Hz");
        assert!(quality.phase <= 1e-4, "{from_hz} Hz: a delay");
    }
}

fn noise(n: usize) -> Vec<f32> {
    let mut rng = Rng::for_name(1, Purpose::Order, "noise");
    (0..n).map(|_| rng.normal() as f32 * 0.1).collect()
}

fn resampled(n: usize, from_hz: u32, to_hz: u32) -> Vec<f32> {
    let waveform = Waveform {
        sample_rate_hz: from_hz,
        frames: noise(n),
    };
    resample(waveform, to_hz)
}

#[test]
fn resample_returns_exact_lengths_for_all_rates() {
    assert_eq!(resampled(777, TO_HZ, TO_HZ), noise(777));
    for from_hz in [
        1_000, 7_999, 8_000, 11_025, 22_050, 44_100, 47_999, 48_000, 96_000, 768_000,
    ] {
        for n in [0, 1, 2, 100, 1023, 44_100] {
            let expected = (n as u64 * u64::from(TO_HZ)).div_ceil(u64::from(from_hz)) as usize;
            let frames = resampled(n, from_hz, TO_HZ);
            assert_eq!(frames.len(), expected, "{n} frames at {from_hz} Hz");
            assert!(
                frames
                    .iter()
                    .all(|frame| frame.is_finite() && frame.abs() < 2.0)
            );
        }
    }
}

#[test]
fn resample_is_independent_of_thread_and_earlier_calls() {
    let first = resampled(30_000, 44_100, TO_HZ);
    resampled(5_000, 44_100, TO_HZ);
    resampled(5_000, 8_000, TO_HZ);
    assert_eq!(resampled(30_000, 44_100, TO_HZ), first);
    let elsewhere = std::thread::spawn(|| resampled(30_000, 44_100, TO_HZ));
    assert_eq!(elsewhere.join().unwrap(), first);
}
