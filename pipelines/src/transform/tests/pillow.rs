//! Crop, resize, flip and colour jitter compared with Pillow, on synthetic images.

use serde_json::{Value, json};

use super::crop::random_window;
use super::resize::{between, resize, resize_window};
use super::*;

/// Makes an image that is hard to resize: gradients, stripes a pixel wide, noise, hard edges.
fn image(width: u32, height: u32, seed: u64) -> DecodedImage {
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
    DecodedImage {
        width,
        height,
        pixels,
    }
}

/// Counts of values that differ by 0, 1, 2 and more levels.
#[derive(Debug, Default)]
struct Differences([usize; 4]);

impl Differences {
    fn add(&mut self, ours: &[u8], theirs: &[u8]) {
        assert_eq!(ours.len(), theirs.len());
        for (a, b) in ours.iter().zip(theirs) {
            self.0[usize::from(a.abs_diff(*b)).min(3)] += 1;
        }
    }

    /// Checks that values differ by at most one level; by two for at most 0.01 % of bicubic values.
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

/// Writes the images as raw files in a folder; returns it and their description for the script.
fn written(images: &[DecodedImage]) -> (tempfile::TempDir, Vec<Value>) {
    let folder = tempfile::tempdir().unwrap();
    let describe = |(i, image): (usize, &DecodedImage)| {
        let path = folder.path().join(i.to_string());
        std::fs::write(&path, &image.pixels).unwrap();
        json!({"path": path, "width": image.width, "height": image.height})
    };
    let described = images.iter().enumerate().map(describe).collect();
    (folder, described)
}

/// Compares `ours` with the results of the script for `jobs`, one after the other.
fn compare(images: &[DecodedImage], jobs: &[Value], ours: &[Vec<u8>], filter: Filter) {
    let (_folder, described) = written(images);
    let Some(theirs) = run_pillow(&json!({"images": described, "jobs": jobs})) else {
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

/// Returns the filter's name for the script.
fn name(filter: Filter) -> &'static str {
    match filter {
        Filter::Bilinear => "bilinear",
        Filter::Bicubic => "bicubic",
    }
}

#[test]
fn resize_matches_pillow() {
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
    let images: Vec<_> = (0..).zip(sizes).map(|(i, (w, h))| image(w, h, i)).collect();
    for filter in [Filter::Bilinear, Filter::Bicubic] {
        let (mut jobs, mut ours) = (Vec::new(), Vec::new());
        for (i, image) in images.iter().enumerate() {
            for (width, height) in targets.into_iter().chain([sizes[i]]) {
                jobs.push(json!({"image": i, "resize": [width, height], "filter": name(filter)}));
                ours.push(resize(image, width, height, filter).pixels);
            }
        }
        compare(&images, &jobs, &ours, filter);
    }
}

/// Shapes on both sides of Pillow 13's rule for the order of the two passes. The other order is tried
/// too: it must be visibly wrong where the order matters, else this would test nothing.
#[test]
fn resize_takes_the_passes_in_the_order_of_pillow_13() {
    // Rows lost: 40; columns lost: 19, 20 and 21, and the same with columns gained.
    let cases = [
        ([83, 104], [64, 64]),
        ([84, 104], [64, 64]),
        ([85, 104], [64, 64]),
        ([40, 65], [64, 64]),
        ([40, 64], [64, 64]),
        ([40, 63], [64, 64]),
        ([300, 900], [224, 224]),
        ([900, 300], [224, 224]),
        ([53, 37], [32, 80]),
        ([37, 153], [80, 32]),
    ];
    let images: Vec<_> = (60..)
        .zip(cases)
        .map(|(i, ([w, h], _))| image(w, h, i))
        .collect();
    for filter in [Filter::Bilinear, Filter::Bicubic] {
        let (mut jobs, mut ours) = (Vec::new(), Vec::new());
        let (mut n_height_first, mut furthest) = (0, 0);
        for (i, ((from, to), image)) in cases.into_iter().zip(&images).enumerate() {
            let [width, height] = to;
            jobs.push(json!({"image": i, "resize": to, "filter": name(filter)}));
            ours.push(resize(image, width, height, filter).pixels);
            let height_first = between(from, to) == [from[0], to[1]];
            n_height_first += usize::from(height_first);
            let other = if height_first {
                resize(
                    &resize(image, width, from[1], filter),
                    width,
                    height,
                    filter,
                )
            } else {
                resize(
                    &resize(image, from[0], height, filter),
                    width,
                    height,
                    filter,
                )
            };
            let differences = other.pixels.iter().zip(&ours[i]);
            furthest = furthest.max(differences.map(|(a, b)| a.abs_diff(*b)).max().unwrap());
        }
        assert_eq!(n_height_first, 4, "shapes on both sides of the rule");
        // Bilinear results differ by the rounding between the passes alone.
        let visible = if filter == Filter::Bicubic { 3 } else { 1 };
        assert!(
            furthest >= visible,
            "the order makes no difference: {furthest}"
        );
        compare(&images, &jobs, &ours, filter);
    }
}

#[test]
fn cropped_resize_matches_pillow() {
    let sizes = [(500, 375), (333, 500), (64, 48), (1000, 30), (32, 32)];
    let images: Vec<_> = (10..)
        .zip(sizes)
        .map(|(i, (w, h))| image(w, h, i))
        .collect();
    let mut rng = Rng::for_name(0, Purpose::Crop, "windows");
    for filter in [Filter::Bilinear, Filter::Bicubic] {
        let (mut jobs, mut ours) = (Vec::new(), Vec::new());
        for n in 0..300 {
            let i = n % images.len();
            let (width, height) = sizes[i];
            let window = random_window(width, height, [0.08, 1.0], [0.75, 4.0 / 3.0], &mut rng);
            let Window {
                left,
                top,
                width,
                height,
            } = window;
            let side = [32, 97, 224][n % 3];
            jobs.push(json!({"image": i, "window": [left, top, width, height],
                "resize": [side, side], "filter": name(filter)}));
            ours.push(resize_window(&images[i], window, side, side, filter));
        }
        compare(&images, &jobs, &ours, filter);
    }
}

#[test]
fn train_crop_matches_pillow() {
    let images = [image(320, 200, 20), image(90, 160, 21), image(48, 48, 22)];
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
            let i = sample as usize % images.len();
            let stream = |purpose| Rng::for_sample(key, purpose, 0);
            let (width, height) = (images[i].width, images[i].height);
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
            let mut job = json!({"image": i, "flip": flip, "filter": name(filter),
                "window": [left, top, width, height], "resize": [config.size, config.size]});
            if strength > 0.0 {
                let jitter = ColorJitter::draw(strength, &mut stream(Purpose::ColorJitter));
                job["jitter"] = jitter.described();
            }
            jobs.push(job);
            ours.push(train_crop(&images[i], &config, key));
        }
        assert!((30..90).contains(&n_flipped));
        compare(&images, &jobs, &ours, filter);
    }
}

#[test]
fn color_jitter_equals_pillow_exactly() {
    let images = [image(101, 67, 30), image(64, 64, 31)];
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
        jobs.push(json!({"image": i, "jitter": jitter.described(), "window": [3, 5, 40, 50]}));
        ours.push(jitter.apply(&images[i], window).pixels);
    }
    let (_folder, described) = written(&images);
    let Some(theirs) = run_pillow(&json!({"images": described, "jobs": jobs})) else {
        return;
    };
    assert!(theirs == ours.concat());
}

#[test]
fn eval_crop_matches_pillow() {
    let sizes = [
        (320, 200),
        (90, 161),
        (64, 64),
        (65, 64),
        (30, 21),
        (600, 40),
        (41, 640),
    ];
    let images: Vec<_> = (40..)
        .zip(sizes)
        .map(|(i, (w, h))| image(w, h, i))
        .collect();
    for filter in [Filter::Bilinear, Filter::Bicubic] {
        let (mut jobs, mut ours) = (Vec::new(), Vec::new());
        for size in [56, 57, 64] {
            let config = ImageConfig {
                size,
                ..config(0.0, filter)
            };
            for (i, image) in images.iter().enumerate() {
                jobs.push(
                    json!({"image": i, "eval": [config.eval_resize, config.size],
                    "filter": name(filter)}),
                );
                ours.push(eval_crop(image, &config));
            }
        }
        compare(&images, &jobs, &ours, filter);
    }
}

/// Each side and offset has the mean and variance of torchvision's rule, for images where the first
/// draws fit and for long ones that mostly use the fallback.
#[test]
fn random_windows_match_torchvision_statistics() {
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
    let Some(theirs) = run_pillow(&json!({"windows": described})) else {
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
