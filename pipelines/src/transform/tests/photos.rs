//! From a JPEG file to the training crop, compared with Pillow, on real photos.

use super::skip::skip;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::crop::random_window;
use super::*;
use crate::decode::decode_image;
use crate::limits::Limits;

/// The JPEG decoders differ too (chroma upsampling, rounding of the inverse DCT): this prints by how
/// much on real photos, and fails only if the difference is visible.
#[test]
fn decoded_and_cropped_photos_are_close_to_pillow() {
    let data = std::env::var_os("UNDERSTUDY_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
        PathBuf::from,
    );
    let folder = data.join("images/flowers/val");
    let files = walkdir::WalkDir::new(&folder)
        .sort_by_file_name()
        .into_iter()
        .flatten();
    let photos: Vec<_> = files
        .map(walkdir::DirEntry::into_path)
        .filter(|path| path.is_file())
        .collect();
    if photos.is_empty() {
        skip("data", &format!("no photos in {}", folder.display()));
        return;
    }
    let config = ImageConfig {
        size: 224,
        flip_prob: 0.0,
        ..config(0.0, Filter::Bicubic)
    };
    let (mut jobs, mut decoded, mut crops) = (Vec::new(), Vec::new(), Vec::new());
    for (i, path) in photos.iter().enumerate() {
        let image = decode_image(&std::fs::read(path).unwrap(), &Limits::default()).unwrap();
        let key = SampleKey {
            seed: 1,
            epoch: 0,
            sample: i as u64,
        };
        let Window {
            left,
            top,
            width,
            height,
        } = random_window(
            image.width,
            image.height,
            config.crop_scale,
            config.crop_ratio,
            &mut Rng::for_sample(key, Purpose::Crop, 0),
        );
        jobs.push(json!({"image": i}));
        jobs.push(json!({"image": i, "window": [left, top, width, height],
            "resize": [224, 224], "filter": "bicubic"}));
        crops.push(train_crop(&image, &config, key));
        decoded.push(image.pixels);
    }
    let described: Vec<Value> = photos.iter().map(|path| json!({"path": path})).collect();
    let Some(theirs) = run_pillow(&json!({"images": described, "jobs": jobs})) else {
        return;
    };
    let mut theirs = &theirs[..];
    let mut counts = [[0_u64; 256]; 2];
    for pair in decoded.iter().zip(&crops) {
        for (count, pixels) in counts.iter_mut().zip([pair.0, pair.1]) {
            for (a, b) in pixels.iter().zip(theirs.split_off(..pixels.len()).unwrap()) {
                count[usize::from(a.abs_diff(*b))] += 1;
            }
        }
    }
    for (what, count) in ["decoded", "cropped to 224"].into_iter().zip(counts) {
        let n: u64 = count.iter().sum();
        let mean = (0_u64..)
            .zip(count)
            .map(|(levels, n)| levels * n)
            .sum::<u64>() as f64
            / n as f64;
        let mut below = 0;
        let p99 = count.iter().position(|count| {
            below += count;
            below * 100 >= n * 99
        });
        let max = count.iter().rposition(|&count| count > 0).unwrap();
        println!(
            "{} photos, {what}: mean difference {mean:.4} levels, p99 {}, max {max}, equal {:.2} %",
            photos.len(),
            p99.unwrap(),
            100.0 * count[0] as f64 / n as f64
        );
        assert!(mean < 1.0, "{what}: {mean} levels");
    }
}
