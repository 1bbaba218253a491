//! Audio decoders on odd and bad files: all of `tests/fixtures/audio`, made by its `make.py`.

use std::path::PathBuf;

use serde_json::Value;

use understudy_pipelines::SampleError;
use understudy_pipelines::decode::{Waveform, decode_audio, read_audio_header};
use understudy_pipelines::limits::Limits;
use understudy_pipelines::rng::{Purpose, Rng};

use crate::skip::skip;

struct Fixture {
    name: String,
    bytes: Vec<u8>,
    expected: Value,
}

impl Fixture {
    fn is_good(&self) -> bool {
        self.expected["error"].is_null()
    }

    fn number(&self, key: &str) -> u64 {
        self.expected[key].as_u64().unwrap()
    }

    /// Returns the frames that the file must decode to, if they are stored.
    fn frames(&self) -> Option<Vec<f32>> {
        let bytes = std::fs::read(folder().join(format!("{}.f32", self.name))).ok()?;
        let (frames, _) = bytes.as_chunks::<4>();
        Some(
            frames
                .iter()
                .map(|frame| f32::from_le_bytes(*frame))
                .collect(),
        )
    }

    fn decode(&self) -> Result<Waveform, SampleError> {
        decode_audio(&self.bytes, &Limits::default(), None)
    }
}

fn folder() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "fixtures", "audio"]
        .iter()
        .collect()
}

fn fixtures() -> Vec<Fixture> {
    let expected = std::fs::read(folder().join("expected.json")).unwrap();
    let expected: serde_json::Map<String, Value> = serde_json::from_slice(&expected).unwrap();
    let fixtures = expected.into_iter().map(|(name, expected)| {
        let bytes = std::fs::read(folder().join(&name)).unwrap();
        Fixture {
            name,
            bytes,
            expected,
        }
    });
    fixtures.collect()
}

/// Returns the largest difference of two waveforms of one length.
fn furthest(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}

#[test]
fn audio_decodes_as_in_libsndfile_and_ffmpeg() {
    let mut wrong = Vec::new();
    for fixture in fixtures() {
        let problem = match (fixture.is_good(), fixture.decode()) {
            (true, Ok(waveform)) => {
                let found = (
                    u64::from(waveform.sample_rate_hz),
                    waveform.frames.len() as u64,
                );
                let off = match fixture.frames() {
                    Some(frames) if frames.len() == waveform.frames.len() => {
                        furthest(&waveform.frames, &frames)
                    }
                    _ => 0.0,
                };
                if found != (fixture.number("rate"), fixture.number("frames")) {
                    format!("{} frames at {} Hz", found.1, found.0)
                } else if f64::from(off) > fixture.expected["tolerance"].as_f64().unwrap() {
                    format!("off by {off}")
                } else {
                    continue;
                }
            }
            (false, Err(error)) => {
                let kind = match error {
                    SampleError::Decode(_) => "decode",
                    SampleError::Unsupported(_) => "unsupported",
                    SampleError::Empty => "empty",
                    SampleError::Limit { .. } => "limit",
                    _ => "another",
                };
                if fixture.expected["error"] == kind {
                    continue;
                }
                format!("{error:?}")
            }
            (_, result) => format!("{:?}", result.map(|waveform| waveform.frames.len())),
        };
        wrong.push(format!("{}: {problem}", fixture.name));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn header_matches_decoded_audio() {
    for fixture in fixtures().iter().filter(|fixture| fixture.is_good()) {
        let name = &fixture.name;
        let header = read_audio_header(&fixture.bytes, &Limits::default()).unwrap();
        assert_eq!(
            u64::from(header.sample_rate_hz),
            fixture.number("rate"),
            "{name}"
        );
        assert_eq!(
            u64::from(header.n_channels),
            fixture.number("channels"),
            "{name}"
        );
        assert_eq!(header.n_frames, Some(fixture.number("frames")), "{name}");
        assert!(
            header.decode_bytes >= 4 * fixture.number("frames"),
            "{name}"
        );
    }
}

#[test]
fn limits_are_checked_before_decoding() {
    for fixture in fixtures().iter().filter(|fixture| fixture.is_good()) {
        let found = fixture.number("frames").div_ceil(fixture.number("rate"));
        let within = Limits {
            seconds: found,
            bytes: fixture.bytes.len() as u64,
            ..Limits::default()
        };
        assert!(decode_audio(&fixture.bytes, &within, None).is_ok());
        let limits = Limits {
            seconds: found - 1,
            ..within
        };
        let over = decode_audio(&fixture.bytes, &limits, None);
        let (what, limit) = ("seconds", found - 1);
        assert_eq!(over, Err(SampleError::Limit { what, found, limit }));
        let limits = Limits {
            bytes: within.bytes - 1,
            ..within
        };
        let over = decode_audio(&fixture.bytes, &limits, None);
        assert!(matches!(
            over,
            Err(SampleError::Limit { what: "bytes", .. })
        ));
    }
}

/// Clips from the beginning, the middle and the end equal the ranges of the full waveform.
#[test]
fn clips_equal_ranges_of_the_full_waveform() {
    for fixture in fixtures().iter().filter(|fixture| fixture.is_good()) {
        let name = &fixture.name;
        let whole = fixture.decode().unwrap().frames;
        let n = whole.len() as u64;
        let exact = name.contains("flac") || name.contains("wav");
        for clip in [0..n, 0..1, n / 2..n / 2 + n / 4, n * 5 / 7..n, n - 1..n] {
            let waveform = decode_audio(&fixture.bytes, &Limits::default(), Some(clip.clone()));
            let frames = waveform
                .unwrap_or_else(|error| panic!("{name} {clip:?}: {error}"))
                .frames;
            let expected = &whole[clip.start as usize..clip.end as usize];
            let off = furthest(&frames, expected);
            let allowed = if exact { 0.0 } else { 1e-3 };
            assert!(off <= allowed, "{name} {clip:?}: off by {off}");
        }
        for clip in [0..n + 1, n..n + 1, 5..5] {
            let result = decode_audio(&fixture.bytes, &Limits::default(), Some(clip.clone()));
            assert!(result.is_err(), "{name} {clip:?}");
        }
    }
}

/// A damaged file costs its sample at most: each call returns, with finite frames within the limit.
#[test]
fn damaged_fixtures_never_panic_or_hang() {
    let mut rng = Rng::for_name(3, Purpose::Order, "damage");
    let limits = Limits {
        seconds: 60,
        ..Limits::default()
    };
    for fixture in fixtures() {
        check_damaged(&fixture.name, &fixture.bytes, 25, &limits, &mut rng);
    }
}

/// The same with real speech.
#[test]
fn damaged_utterances_never_panic_or_hang() {
    let mut rng = Rng::for_name(3, Purpose::Order, "damaged recordings");
    let limits = Limits {
        seconds: 60,
        ..Limits::default()
    };
    for path in utterances().into_iter().step_by(37) {
        let bytes = std::fs::read(&path).unwrap();
        check_damaged(&path.display().to_string(), &bytes, 6, &limits, &mut rng);
    }
}

/// Returns the FLAC and WAV files of `$UNDERSTUDY_DATA/speech`; none, with the reason printed, if
/// there are none.
fn utterances() -> Vec<PathBuf> {
    let data = std::env::var_os("UNDERSTUDY_DATA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
        PathBuf::from,
    );
    let folder = data.join("speech");
    let files = walkdir::WalkDir::new(&folder).sort_by_file_name();
    let paths = files
        .into_iter()
        .flatten()
        .map(walkdir::DirEntry::into_path);
    let is_audio = |path: &PathBuf| {
        path.extension()
            .is_some_and(|end| end == "flac" || end == "wav")
    };
    let utterances: Vec<PathBuf> = paths.filter(is_audio).collect();
    if utterances.is_empty() {
        skip(
            "data",
            &format!("no FLAC or WAV files in {}", folder.display()),
        );
    }
    utterances
}

fn check_damaged(name: &str, bytes: &[u8], n: usize, limits: &Limits, rng: &mut Rng) {
    for _ in 0..n {
        let mut bytes = bytes.to_vec();
        bytes.truncate(1 + rng.below(2 * bytes.len().max(1)));
        if bytes.is_empty() {
            continue;
        }
        for _ in 0..rng.below(4) {
            // Half of the flips hit the headers.
            let among = if rng.below(2) == 0 { 200 } else { bytes.len() };
            let at = rng.below(among.min(bytes.len()));
            bytes[at] = rng.next_u32() as u8;
        }
        let clip = (rng.below(2) == 0).then(|| {
            let start = rng.below(3000) as u64;
            start..start + 500
        });
        if let Ok(waveform) = decode_audio(&bytes, limits, clip) {
            let most = limits.seconds as usize * waveform.sample_rate_hz as usize;
            assert!(waveform.frames.len() <= most, "{name}");
            assert!(
                waveform.frames.iter().all(|frame| frame.is_finite()),
                "{name}"
            );
        }
    }
}

/// A truncated file is a bad sample or (if all frames are left) the same waveform.
#[test]
fn truncated_audio_is_rejected() {
    let mut rng = Rng::for_name(3, Purpose::Order, "cut");
    for path in utterances().into_iter().step_by(29) {
        let bytes = std::fs::read(&path).unwrap();
        let whole = decode_audio(&bytes, &Limits::default(), None).unwrap();
        for _ in 0..8 {
            let length = rng.below(bytes.len());
            if let Ok(truncated) = decode_audio(&bytes[..length], &Limits::default(), None) {
                let path = path.display();
                assert!(
                    truncated == whole,
                    "{path}: the first {length} bytes decode as if they were the full file"
                );
            }
        }
    }
}

/// FLAC and 16-bit WAV are exact: the bits equal those of Python's soundfile.
#[test]
fn decoded_audio_equals_soundfile_bit_for_bit() {
    let python = std::env::var("UNDERSTUDY_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let run = |arguments: &[&str]| std::process::Command::new(&python).args(arguments).output();
    if !run(&["-c", "import soundfile"]).is_ok_and(|output| output.status.success()) {
        skip(
            "soundfile",
            &format!("`{python}` cannot import soundfile (UNDERSTUDY_PYTHON may name another)"),
        );
        return;
    }
    let utterances: Vec<PathBuf> = utterances().into_iter().step_by(5).collect();
    let script = "import sys, soundfile\n\
        for path in sys.argv[1:]:\n\
        \x20   frames, rate = soundfile.read(path, dtype='float32', always_2d=True)\n\
        \x20   sys.stdout.buffer.write(frames.mean(1, dtype='float32').tobytes())";
    let mut arguments = vec!["-c", script];
    arguments.extend(utterances.iter().map(|path| path.to_str().unwrap()));
    let output = run(&arguments).unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut theirs = &output.stdout[..];
    for path in &utterances {
        let waveform =
            decode_audio(&std::fs::read(path).unwrap(), &Limits::default(), None).unwrap();
        let ours: Vec<u8> = waveform
            .frames
            .iter()
            .flat_map(|frame| frame.to_le_bytes())
            .collect();
        let theirs = theirs.split_off(..ours.len()).expect("as many frames");
        assert!(ours == theirs, "{} differs", path.display());
    }
    assert!(theirs.is_empty(), "soundfile gives more frames");
    println!("{} utterances are equal", utterances.len());
}
