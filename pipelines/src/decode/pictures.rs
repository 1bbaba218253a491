//! The decoders on odd and bad files: all of `tests/fixtures/pictures`, made by its `make.py`.

use std::path::PathBuf;

use serde_json::Value;

use super::{decode_image, read_header};
use crate::config::Limits;
use crate::error::SampleError;

struct Fixture {
    name: String,
    bytes: Vec<u8>,
    expected: Value,
}

impl Fixture {
    /// The size and pixels that the file must decode to; `None` if it is a bad file.
    fn pixels(&self) -> Option<(u32, u32, Vec<u8>)> {
        let side = |key: &str| self.expected[key].as_u64().map(|side| side as u32);
        let pixels = std::fs::read(folder().join(format!("{}.rgb", self.name))).ok()?;
        Some((side("width")?, side("height")?, pixels))
    }
}

fn folder() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "fixtures", "pictures"]
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

#[test]
fn every_kind_of_picture_decodes_as_pillow_decodes_it() {
    let mut wrong = Vec::new();
    for fixture in fixtures() {
        let decoded = decode_image(&fixture.bytes, &Limits::default());
        let problem = match (fixture.pixels(), decoded) {
            (Some((width, height, _)), Ok(picture))
                if (picture.width, picture.height) != (width, height) =>
            {
                format!("{} × {} pixels", picture.width, picture.height)
            }
            (Some((_, _, pixels)), Ok(picture)) => {
                assert_eq!(picture.pixels.len(), pixels.len());
                let differences = picture
                    .pixels
                    .iter()
                    .zip(&pixels)
                    .map(|(a, b)| a.abs_diff(*b));
                let levels = u64::from(differences.max().unwrap());
                let allowed = fixture.expected["levels"].as_u64().unwrap();
                if levels <= allowed {
                    continue;
                }
                format!("{levels} levels off, {allowed} allowed")
            }
            (None, Err(error)) => {
                let kind = match error {
                    SampleError::Decode(_) => "decode",
                    SampleError::Unsupported(_) => "unsupported",
                    SampleError::Empty => "empty",
                    _ => "another",
                };
                if fixture.expected["error"] == kind {
                    continue;
                }
                format!("{error:?}")
            }
            (_, result) => format!(
                "{:?}",
                result.map(|picture| (picture.width, picture.height))
            ),
        };
        wrong.push(format!("{}: {problem}", fixture.name));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn headers_tell_what_decoding_gives() {
    for fixture in fixtures() {
        if let Some((width, height, pixels)) = fixture.pixels() {
            let header = read_header(&fixture.bytes, &Limits::default()).unwrap();
            assert_eq!(
                (header.width, header.height),
                (width, height),
                "{}",
                fixture.name
            );
            assert!(
                header.decode_bytes >= pixels.len() as u64,
                "{}",
                fixture.name
            );
        }
    }
}

#[test]
fn limits_hold_before_anything_is_decoded() {
    for fixture in fixtures()
        .iter()
        .filter(|fixture| fixture.pixels().is_some())
    {
        let (width, height, _) = fixture.pixels().unwrap();
        let found = u64::from(width) * u64::from(height);
        let limits = Limits {
            pixels: found - 1,
            ..Limits::default()
        };
        let over = SampleError::Limit {
            what: "pixels",
            found,
            limit: found - 1,
        };
        assert_eq!(
            read_header(&fixture.bytes, &limits),
            Err(over.clone()),
            "{}",
            fixture.name
        );
        assert_eq!(
            decode_image(&fixture.bytes, &limits),
            Err(over),
            "{}",
            fixture.name
        );
        let limits = Limits {
            pixels: found,
            ..Limits::default()
        };
        assert!(
            decode_image(&fixture.bytes, &limits).is_ok(),
            "{}",
            fixture.name
        );

        let found = fixture.bytes.len() as u64;
        let limits = Limits {
            bytes: found - 1,
            ..Limits::default()
        };
        let over = SampleError::Limit {
            what: "bytes",
            found,
            limit: found - 1,
        };
        assert_eq!(
            decode_image(&fixture.bytes, &limits),
            Err(over),
            "{}",
            fixture.name
        );
    }
}

/// A picture that says it is enormous is refused by its header, whatever follows.
#[test]
fn a_bomb_costs_nothing() {
    let path = folder().join("rgb-444.jpg");
    let mut bytes = std::fs::read(path).unwrap();
    let frame = bytes
        .windows(2)
        .position(|pair| pair == [0xFF, 0xC0])
        .unwrap();
    bytes[frame + 5..frame + 9].fill(0xFF);
    let found = 65_535 * 65_535;
    let limit = Limits::default().pixels;
    let over = SampleError::Limit {
        what: "pixels",
        found,
        limit,
    };
    assert_eq!(decode_image(&bytes, &Limits::default()), Err(over));
}

/// Wherever a file is cut off, it is a bad sample or (the cut behind all pixels) the same picture.
#[test]
fn no_cut_off_file_passes_for_a_whole_one() {
    for fixture in fixtures() {
        let Ok(whole) = decode_image(&fixture.bytes, &Limits::default()) else {
            continue;
        };
        for length in (0..fixture.bytes.len())
            .step_by(7)
            .chain([fixture.bytes.len() - 1])
        {
            if let Ok(part) = decode_image(&fixture.bytes[..length], &Limits::default()) {
                let name = &fixture.name;
                assert!(
                    part == whole,
                    "{name}: the first {length} bytes give another picture"
                );
            }
        }
    }
}

/// Damage costs the sample at most: each call comes back, and a picture is as large as it says.
#[test]
fn damaged_files_come_back_as_results() {
    use crate::rng::{Purpose, Rng};
    let mut rng = Rng::for_name(3, Purpose::Order, "damage");
    let limits = Limits {
        pixels: 100_000,
        ..Limits::default()
    };
    for fixture in fixtures()
        .iter()
        .filter(|fixture| !fixture.bytes.is_empty())
    {
        for _ in 0..40 {
            let mut bytes = fixture.bytes.clone();
            for _ in 0..=rng.below(3) {
                let at = rng.below(bytes.len());
                bytes[at] = rng.next_u32() as u8;
            }
            if let Ok(picture) = decode_image(&bytes, &limits) {
                let n_bytes = 3 * picture.width as usize * picture.height as usize;
                assert_eq!(picture.pixels.len(), n_bytes, "{}", fixture.name);
            }
        }
    }
}
