//! Decodes and resamples audio and tokenises text in one thread, for `benches/audio_style.py` to
//! compare with Python's libraries.
//!
//! `media audio TO_HZ FILES…` or `media text VOCABULARY FILES…`: prints a digest of the results and
//! the CPU-seconds as JSON. Files are read before the clock starts; a first pass warms up.
#![expect(clippy::print_stdout, reason = "the result")]

use std::path::Path;

use sha2::{Digest, Sha256};
use understudy_pipelines::decode::decode_audio;
use understudy_pipelines::limits::Limits;
use understudy_pipelines::tokenize::Tokenizer;
use understudy_pipelines::transform::waveform::{normalise, resample};

fn main() {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["audio", to_hz, ref files @ ..] => audio(to_hz.parse().expect("a rate"), files),
        ["text", vocabulary, ref files @ ..] => text(Path::new(vocabulary), files),
        _ => println!("usage: media audio TO_HZ FILES… | media text VOCABULARY FILES…"),
    }
}

/// Decodes, resamples and normalises every file.
fn audio(to_hz: u32, files: &[&str]) {
    let files: Vec<Vec<u8>> = files
        .iter()
        .map(|file| std::fs::read(file).unwrap_or_else(|error| panic!("{file}: {error}")))
        .collect();
    let decode = |bytes: &[u8]| {
        let waveform = decode_audio(bytes, &Limits::default(), None);
        waveform.unwrap_or_else(|error| panic!("{error}"))
    };
    let (mut decoded, mut resampled) = (Sha256::new(), Vec::new());
    let mut seconds = 0.0;
    for file in &files {
        let waveform = decode(file);
        seconds += waveform.frames.len() as f64 / f64::from(waveform.sample_rate_hz);
        for frame in &waveform.frames {
            decoded.update(frame.to_le_bytes());
        }
        resampled.extend(
            resample(waveform, to_hz)
                .iter()
                .map(|&frame| f64::from(frame)),
        );
    }
    let decode_secs = cpu_secs(|| {
        for file in &files {
            std::hint::black_box(decode(file));
        }
    });
    let all_secs = cpu_secs(|| {
        for file in &files {
            let mut frames = resample(decode(file), to_hz);
            normalise(&mut frames, 1e-5);
            std::hint::black_box(frames);
        }
    });
    let power = resampled.iter().map(|frame| frame * frame).sum::<f64>();
    let report = serde_json::json!({
        "seconds": seconds,
        "decoded_sha256": hex(decoded),
        "resampled_rms": (power / resampled.len() as f64).sqrt(),
        "resampled_frames": resampled.len(),
        "decode_cpu_secs": decode_secs,
        "decode_resample_normalise_cpu_secs": all_secs,
    });
    println!("{report}");
}

/// Tokenises every line as one text.
fn text(vocabulary: &Path, files: &[&str]) {
    let tokenizer = Tokenizer::open(vocabulary).unwrap_or_else(|error| panic!("{error}"));
    let texts: Vec<String> = files
        .iter()
        .map(|file| std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{file}: {error}")))
        .collect();
    let encode = |ids: &mut Vec<u32>| {
        for line in texts.iter().flat_map(|text| text.split('\n')) {
            let result = tokenizer.encode(line, ids);
            result.unwrap_or_else(|error| panic!("{error}"));
        }
    };
    let mut ids = Vec::new();
    encode(&mut ids);
    let mut hash = Sha256::new();
    for id in &ids {
        hash.update(id.to_le_bytes());
    }
    let secs = cpu_secs(|| {
        let mut ids = Vec::new();
        encode(&mut ids);
        std::hint::black_box(ids);
    });
    let report = serde_json::json!({
        "bytes": texts.iter().map(String::len).sum::<usize>(),
        "tokens": ids.len(),
        "ids_sha256": hex(hash),
        "cpu_secs": secs,
    });
    println!("{report}");
}

/// Measures the CPU seconds of this thread in `work`.
fn cpu_secs(work: impl FnOnce()) -> f64 {
    let now = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
    };
    let start = now();
    work();
    now() - start
}

fn hex(hash: Sha256) -> String {
    format!("{:x}", hash.finalize())
}
