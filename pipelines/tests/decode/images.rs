//! Image decoders on odd and bad files: all of `tests/fixtures/images`, made by its `make.py`.

use std::path::PathBuf;

use serde_json::Value;

use understudy_pipelines::SampleError;
use understudy_pipelines::decode::{decode_image, read_header};
use understudy_pipelines::limits::Limits;
use understudy_pipelines::rng::{Purpose, Rng};

struct Fixture {
    name: String,
    bytes: Vec<u8>,
    expected: Value,
}

impl Fixture {
    /// Returns width, height and pixels that the file must decode to; `None` if it is a bad file.
    fn pixels(&self) -> Option<(u32, u32, Vec<u8>)> {
        let side = |key: &str| self.expected[key].as_u64().map(|side| side as u32);
        let pixels = std::fs::read(folder().join(format!("{}.rgb", self.name))).ok()?;
        Some((side("width")?, side("height")?, pixels))
    }
}

fn folder() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "fixtures", "images"]
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
fn images_decode_as_in_pillow() {
    let mut wrong = Vec::new();
    for fixture in fixtures() {
        let decoded = decode_image(&fixture.bytes, &Limits::default());
        let problem = match (fixture.pixels(), decoded) {
            (Some((width, height, _)), Ok(image))
                if (image.width, image.height) != (width, height) =>
            {
                format!("{} × {} pixels", image.width, image.height)
            }
            (Some((_, _, pixels)), Ok(image)) => {
                assert_eq!(image.pixels.len(), pixels.len());
                let differences = image
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
            (_, result) => format!("{:?}", result.map(|image| (image.width, image.height))),
        };
        wrong.push(format!("{}: {problem}", fixture.name));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn header_matches_decoded_image() {
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
fn limits_are_checked_before_decoding() {
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

/// An image whose header has an enormous size is rejected, whatever follows.
#[test]
fn decompression_bomb_is_rejected_by_its_header() {
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

/// A truncated file is a bad sample or (if all pixels are left) the same image.
#[test]
fn truncated_image_is_rejected() {
    for fixture in fixtures() {
        let Ok(whole) = decode_image(&fixture.bytes, &Limits::default()) else {
            continue;
        };
        for length in (0..fixture.bytes.len())
            .step_by(7)
            .chain([fixture.bytes.len() - 1])
        {
            if let Ok(truncated) = decode_image(&fixture.bytes[..length], &Limits::default()) {
                let name = &fixture.name;
                assert!(
                    truncated == whole,
                    "{name}: the first {length} bytes give another image"
                );
            }
        }
    }
}

/// A damaged file costs its sample at most: each call returns, and an image has the size of its
/// header.
#[test]
fn damaged_images_never_panic_or_hang() {
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
            if let Ok(image) = decode_image(&bytes, &limits) {
                let n_bytes = 3 * image.width as usize * image.height as usize;
                assert_eq!(image.pixels.len(), n_bytes, "{}", fixture.name);
            }
        }
    }
}
