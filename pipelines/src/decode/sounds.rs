//! The decoders on odd and bad files: all of `tests/fixtures/sounds`, made by its `make.py`.

use std::path::PathBuf;

use serde_json::Value;

use super::{Wave, decode_audio, read_audio_header};
use crate::config::Limits;
use crate::error::SampleError;
use crate::rng::{Purpose, Rng};

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

    /// The frames that the file must decode to, where they are kept.
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

    fn decode(&self) -> Result<Wave, SampleError> {
        decode_audio(&self.bytes, &Limits::default(), None)
    }
}

fn folder() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "fixtures", "sounds"]
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

/// The largest difference of two waves of one length.
fn furthest(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}

#[test]
fn every_kind_of_sound_decodes_as_libsndfile_and_ffmpeg_decode_it() {
    let mut wrong = Vec::new();
    for fixture in fixtures() {
        let problem = match (fixture.is_good(), fixture.decode()) {
            (true, Ok(wave)) => {
                let found = (u64::from(wave.sample_rate_hz), wave.frames.len() as u64);
                let off = match fixture.frames() {
                    Some(frames) if frames.len() == wave.frames.len() => {
                        furthest(&wave.frames, &frames)
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
            (_, result) => format!("{:?}", result.map(|wave| wave.frames.len())),
        };
        wrong.push(format!("{}: {problem}", fixture.name));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn headers_tell_what_decoding_gives() {
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
fn limits_hold_before_anything_is_decoded() {
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

/// Clips from the beginning, the middle and the end are ranges of the whole.
#[test]
fn clips_are_ranges_of_the_whole() {
    for fixture in fixtures().iter().filter(|fixture| fixture.is_good()) {
        let name = &fixture.name;
        let whole = fixture.decode().unwrap().frames;
        let n = whole.len() as u64;
        let exact = name.contains("flac") || name.contains("wav");
        for clip in [0..n, 0..1, n / 2..n / 2 + n / 4, n * 5 / 7..n, n - 1..n] {
            let wave = decode_audio(&fixture.bytes, &Limits::default(), Some(clip.clone()));
            let frames = wave
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

/// Damage costs the sample at most: each call comes back, with finite frames within the limit.
#[test]
fn damaged_files_come_back_as_results() {
    let mut rng = Rng::for_name(3, Purpose::Order, "damage");
    let limits = Limits {
        seconds: 60,
        ..Limits::default()
    };
    for fixture in fixtures() {
        check_damaged(&fixture.name, &fixture.bytes, 25, &limits, &mut rng);
    }
}

/// The same with real recordings.
#[test]
fn damaged_recordings_come_back_as_results() {
    let mut rng = Rng::for_name(3, Purpose::Order, "damaged recordings");
    let limits = Limits {
        seconds: 60,
        ..Limits::default()
    };
    for path in recordings().into_iter().step_by(37) {
        let bytes = std::fs::read(&path).unwrap();
        check_damaged(&path.display().to_string(), &bytes, 6, &limits, &mut rng);
    }
}

/// Files of `$UNDERSTUDY_DATA/speech`, FLAC and WAV; none, with the reason printed, if there is none.
fn recordings() -> Vec<PathBuf> {
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
    let is_sound = |path: &PathBuf| {
        path.extension()
            .is_some_and(|end| end == "flac" || end == "wav")
    };
    let recordings: Vec<PathBuf> = paths.filter(is_sound).collect();
    if recordings.is_empty() {
        println!("skipped: no recordings in {}", folder.display());
    }
    recordings
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
        if let Ok(wave) = decode_audio(&bytes, limits, clip) {
            let most = limits.seconds as usize * wave.sample_rate_hz as usize;
            assert!(wave.frames.len() <= most, "{name}");
            assert!(wave.frames.iter().all(|frame| frame.is_finite()), "{name}");
        }
    }
}

/// Wherever a recording is cut off, it is a bad sample or (the cut behind all frames) the same one.
#[test]
fn no_cut_off_recording_passes_for_a_whole_one() {
    let mut rng = Rng::for_name(3, Purpose::Order, "cut");
    for path in recordings().into_iter().step_by(29) {
        let bytes = std::fs::read(&path).unwrap();
        let whole = decode_audio(&bytes, &Limits::default(), None).unwrap();
        for _ in 0..8 {
            let length = rng.below(bytes.len());
            if let Ok(part) = decode_audio(&bytes[..length], &Limits::default(), None) {
                let path = path.display();
                assert!(
                    part == whole,
                    "{path}: its first {length} bytes pass for a whole file"
                );
            }
        }
    }
}

/// FLAC and 16-bit WAV are exact: the bits that Python's soundfile gives.
#[test]
fn recordings_are_bit_exact_beside_soundfile() {
    let python = std::env::var("UNDERSTUDY_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let run = |arguments: &[&str]| std::process::Command::new(&python).args(arguments).output();
    if !run(&["-c", "import soundfile"]).is_ok_and(|output| output.status.success()) {
        println!(
            "skipped: `{python}` cannot import soundfile (UNDERSTUDY_PYTHON may name another)"
        );
        return;
    }
    let recordings: Vec<PathBuf> = recordings().into_iter().step_by(5).collect();
    let script = "import sys, soundfile\n\
        for path in sys.argv[1:]:\n\
        \x20   frames, rate = soundfile.read(path, dtype='float32', always_2d=True)\n\
        \x20   sys.stdout.buffer.write(frames.mean(1, dtype='float32').tobytes())";
    let mut arguments = vec!["-c", script];
    arguments.extend(recordings.iter().map(|path| path.to_str().unwrap()));
    let output = run(&arguments).unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut theirs = &output.stdout[..];
    for path in &recordings {
        let wave = decode_audio(&std::fs::read(path).unwrap(), &Limits::default(), None).unwrap();
        let ours: Vec<u8> = wave
            .frames
            .iter()
            .flat_map(|frame| frame.to_le_bytes())
            .collect();
        let theirs = theirs.split_off(..ours.len()).expect("as many frames");
        assert!(ours == theirs, "{} differs", path.display());
    }
    assert!(theirs.is_empty(), "soundfile gives more frames");
    println!("{} recordings are equal", recordings.len());
}
