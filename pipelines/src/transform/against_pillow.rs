//! Crop, resize, flip and colour beside Pillow itself, on pictures made here.
//!
//! Needs Python with Pillow: `UNDERSTUDY_PYTHON` names the interpreter, else `python3`.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::color::ColorJitter;
use super::crop::{Window, random_window};
use super::{eval_crop, resize, resize::resize_window, train_crop};
use crate::config::{Filter, ImageConfig};
use crate::decode::Picture;
use crate::rng::{Purpose, Rng, SampleKey};

/// What `tests/fixtures/pillow.py` makes of `jobs`; `None`, with the reason printed, if there is no Pillow.
pub(super) fn pillow(jobs: &Value) -> Option<Vec<u8>> {
    let python = std::env::var("UNDERSTUDY_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has_pillow = Command::new(&python).args(["-c", "import PIL"]).output();
    if !has_pillow.is_ok_and(|output| output.status.success()) {
        println!("skipped: `{python}` cannot import Pillow (UNDERSTUDY_PYTHON may name another)");
        return None;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pillow.py");
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(jobs.to_string().as_bytes()).unwrap();
    let output = Command::new(python)
        .arg(script)
        .arg(file.path())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Some(output.stdout)
}

/// A picture that is hard to resize: gradients, stripes a pixel wide, noise, hard edges.
fn picture(width: u32, height: u32, seed: u64) -> Picture {
    let mut rng = Rng::for_name(seed, Purpose::Order, "picture");
    let kinds = [0, 1, 2].map(|_| rng.below(4));
    let mut pixels = Vec::new();
    for y in 0..height {
        for x in 0..width {
            for kind in kinds {
                let noise = rng.next_u32() as u8;
                pixels.push(match kind {
                    0 => noise,
                    1 => (x * 255 / width) as u8,
                    2 => 255 * ((x + y) % 2) as u8,
                    _ => (96 + y % 64) as u8 + noise % 16 + 70 * u8::from(x * 3 > width),
                });
            }
        }
    }
    Picture {
        width,
        height,
        pixels,
    }
}

/// Values that differ by 0, 1, 2 and more levels.
#[derive(Debug, Default)]
struct Differences([usize; 4]);

impl Differences {
    fn add(&mut self, ours: &[u8], theirs: &[u8]) {
        assert_eq!(ours.len(), theirs.len());
        for (a, b) in ours.iter().zip(theirs) {
            self.0[usize::from(a.abs_diff(*b)).min(3)] += 1;
        }
    }

    /// At most one level; two for at most 0.01 % of bicubic values.
    fn check(&self, filter: Filter) {
        let n: usize = self.0.iter().sum();
        let two_allowed = if filter == Filter::Bicubic {
            n / 10_000
        } else {
            0
        };
        assert!(
            self.0[3] == 0 && self.0[2] <= two_allowed,
            "{filter:?}: {self:?}"
        );
        assert!(
            self.0[0] > n / 2,
            "{filter:?}: most values are equal, {self:?}"
        );
    }
}

/// The pictures as raw files in a folder, and their description for the script.
fn written(pictures: &[Picture]) -> (tempfile::TempDir, Vec<Value>) {
    let folder = tempfile::tempdir().unwrap();
    let describe = |(i, picture): (usize, &Picture)| {
        let path = folder.path().join(i.to_string());
        std::fs::write(&path, &picture.pixels).unwrap();
        json!({"path": path, "width": picture.width, "height": picture.height})
    };
    let described = pictures.iter().enumerate().map(describe).collect();
    (folder, described)
}

/// Compares `ours` with what the script makes of `jobs`, one after the other.
fn compare(pictures: &[Picture], jobs: &[Value], ours: &[Vec<u8>], filter: Filter) {
    let (_folder, described) = written(pictures);
    let Some(theirs) = pillow(&json!({"pictures": described, "jobs": jobs})) else {
        return;
    };
    let mut theirs = &theirs[..];
    let mut differences = Differences::default();
    for pixels in ours {
        differences.add(pixels, theirs.split_off(..pixels.len()).unwrap());
    }
    assert!(theirs.is_empty());
    println!(
        "{filter:?}: values that differ by 0, 1, 2, more levels: {:?}",
        differences.0
    );
    differences.check(filter);
}

fn name(filter: Filter) -> &'static str {
    match filter {
        Filter::Bilinear => "bilinear",
        Filter::Bicubic => "bicubic",
    }
}

#[test]
fn whole_pictures_resize_as_pillow_resizes_them() {
    let sizes = [
        (1, 1),
        (1, 40),
        (40, 1),
        (2, 3),
        (7, 5),
        (64, 64),
        (500, 375),
        (375, 500),
        (1200, 9),
        (9, 1200),
        (33, 257),
    ];
    let targets = [
        (1, 1),
        (1, 50),
        (50, 1),
        (3, 2),
        (32, 32),
        (224, 224),
        (300, 20),
        (20, 300),
        (400, 301),
    ];
    let pictures: Vec<_> = (0..)
        .zip(sizes)
        .map(|(i, (w, h))| picture(w, h, i))
        .collect();
    for filter in [Filter::Bilinear, Filter::Bicubic] {
        let (mut jobs, mut ours) = (Vec::new(), Vec::new());
        for (i, picture) in pictures.iter().enumerate() {
            for (width, height) in targets.into_iter().chain([sizes[i]]) {
                jobs.push(json!({"picture": i, "resize": [width, height], "filter": name(filter)}));
                ours.push(resize(picture, width, height, filter).pixels);
            }
        }
        compare(&pictures, &jobs, &ours, filter);
    }
}

#[test]
fn random_windows_resize_as_pillow_crops_and_resizes_them() {
    let sizes = [(500, 375), (333, 500), (64, 48), (1000, 30), (32, 32)];
    let pictures: Vec<_> = (10..)
        .zip(sizes)
        .map(|(i, (w, h))| picture(w, h, i))
        .collect();
    let mut rng = Rng::for_name(0, Purpose::Crop, "windows");
    for filter in [Filter::Bilinear, Filter::Bicubic] {
        let (mut jobs, mut ours) = (Vec::new(), Vec::new());
        for n in 0..300 {
            let i = n % pictures.len();
            let (width, height) = sizes[i];
            let window = random_window(width, height, [0.08, 1.0], [0.75, 4.0 / 3.0], &mut rng);
            let Window {
                left,
                top,
                width,
                height,
            } = window;
            let side = [32, 97, 224][n % 3];
            jobs.push(json!({"picture": i, "window": [left, top, width, height],
                "resize": [side, side], "filter": name(filter)}));
            ours.push(resize_window(&pictures[i], window, side, side, filter));
        }
        compare(&pictures, &jobs, &ours, filter);
    }
}

pub(super) fn config(color_jitter: f32, filter: Filter) -> ImageConfig {
    ImageConfig {
        size: 56,
        crop_scale: [0.08, 1.0],
        crop_ratio: [0.75, 4.0 / 3.0],
        filter,
        flip_prob: 0.5,
        color_jitter,
        eval_resize: 64,
        mean: [0.5; 3],
        std: [0.5; 3],
    }
}

#[test]
fn training_views_are_those_of_pillow() {
    let pictures = [
        picture(320, 200, 20),
        picture(90, 160, 21),
        picture(48, 48, 22),
    ];
    for (filter, strength) in [(Filter::Bilinear, 0.0), (Filter::Bicubic, 0.4)] {
        let config = config(strength, filter);
        let (mut jobs, mut ours) = (Vec::new(), Vec::new());
        let mut n_flipped = 0;
        for sample in 0..120 {
            let key = SampleKey {
                seed: 4,
                epoch: 1,
                sample,
            };
            let i = sample as usize % pictures.len();
            let stream = |purpose| Rng::for_sample(key, purpose, 0);
            let (width, height) = (pictures[i].width, pictures[i].height);
            let Window {
                left,
                top,
                width,
                height,
            } = random_window(
                width,
                height,
                config.crop_scale,
                config.crop_ratio,
                &mut stream(Purpose::Crop),
            );
            let flip = stream(Purpose::Flip).uniform() < 0.5;
            n_flipped += usize::from(flip);
            let mut job = json!({"picture": i, "flip": flip, "filter": name(filter),
                "window": [left, top, width, height], "resize": [config.size, config.size]});
            if strength > 0.0 {
                let jitter = ColorJitter::draw(strength, &mut stream(Purpose::ColorJitter));
                job["jitter"] = jitter.described();
            }
            jobs.push(job);
            ours.push(train_crop(&pictures[i], &config, key));
        }
        assert!((30..90).contains(&n_flipped));
        compare(&pictures, &jobs, &ours, filter);
    }
}

#[test]
fn colours_change_exactly_as_pillow_changes_them() {
    let pictures = [picture(101, 67, 30), picture(64, 64, 31)];
    let mut rng = Rng::for_name(0, Purpose::ColorJitter, "test");
    let (mut jobs, mut ours) = (Vec::new(), Vec::new());
    for n in 0..200 {
        let i = n % 2;
        let jitter = ColorJitter::draw([0.4, 1.0][n / 100], &mut rng);
        let window = Window {
            left: 3,
            top: 5,
            width: 40,
            height: 50,
        };
        jobs.push(json!({"picture": i, "jitter": jitter.described(), "window": [3, 5, 40, 50]}));
        ours.push(jitter.apply(&pictures[i], window).pixels);
    }
    let (_folder, described) = written(&pictures);
    let Some(theirs) = pillow(&json!({"pictures": described, "jobs": jobs})) else {
        return;
    };
    assert!(theirs == ours.concat());
}

#[test]
fn evaluation_views_are_those_of_pillow() {
    let sizes = [
        (320, 200),
        (90, 161),
        (64, 64),
        (65, 64),
        (30, 21),
        (600, 40),
        (41, 640),
    ];
    let pictures: Vec<_> = (40..)
        .zip(sizes)
        .map(|(i, (w, h))| picture(w, h, i))
        .collect();
    for filter in [Filter::Bilinear, Filter::Bicubic] {
        let (mut jobs, mut ours) = (Vec::new(), Vec::new());
        for size in [56, 57, 64] {
            let config = ImageConfig {
                size,
                ..config(0.0, filter)
            };
            for (i, picture) in pictures.iter().enumerate() {
                jobs.push(
                    json!({"picture": i, "eval": [config.eval_resize, config.size],
                    "filter": name(filter)}),
                );
                ours.push(eval_crop(picture, &config));
            }
        }
        compare(&pictures, &jobs, &ours, filter);
    }
}

/// Each side and offset has the mean and spread that torchvision's rule gives, for pictures that
/// accept at once and for long ones that mostly come to the fallback.
#[test]
fn random_windows_are_distributed_as_torchvisions() {
    let n = 4000;
    let sizes = [
        (500, 375),
        (100, 40),
        (30, 100),
        (400, 30),
        (10, 300),
        (8, 8),
        (3, 1),
    ];
    let ratio = [0.75, 4.0 / 3.0];
    let scales = [[0.08, 1.0], [0.3, 1.0]];
    let cases: Vec<_> = sizes
        .into_iter()
        .flat_map(|size| scales.map(|scale| (size, scale)))
        .collect();
    let described: Vec<Value> = cases
        .iter()
        .map(|&((width, height), scale)| {
            json!({"width": width, "height": height, "scale": scale, "ratio": ratio, "n": n, "seed": 5})
        })
        .collect();
    let Some(theirs) = pillow(&json!({"windows": described})) else {
        return;
    };
    let theirs: Vec<Vec<[f64; 4]>> = serde_json::from_slice(&theirs).unwrap();
    let mut rng = Rng::for_name(1, Purpose::Crop, "distribution");
    for (((width, height), scale), theirs) in cases.into_iter().zip(theirs) {
        let draw = |_| {
            let window = random_window(width, height, scale, ratio, &mut rng);
            [window.left, window.top, window.width, window.height].map(f64::from)
        };
        let ours: Vec<[f64; 4]> = (0..n).map(draw).collect();
        for side in 0..4 {
            for power in [1, 2] {
                let moment = |windows: &[[f64; 4]], power: i32| {
                    windows
                        .iter()
                        .map(|window| window[side].powi(power))
                        .sum::<f64>()
                        / f64::from(n)
                };
                let (a, b) = (moment(&ours, power), moment(&theirs, power));
                let variance = moment(&theirs, 2 * power) - b * b;
                let allowed = 5.0 * (2.0 * variance / f64::from(n)).sqrt() + 1e-9 * b;
                assert!(
                    (a - b).abs() <= allowed,
                    "{width} × {height}, scale {scale:?}, value {side}^{power}: {a} and {b} ± {allowed}"
                );
            }
        }
    }
}
