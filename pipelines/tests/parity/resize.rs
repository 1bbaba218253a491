//! Resize and centre crop against golden images: every case of the parity folder whose kind is
//! `hf_image_preprocess`, with the tolerance of its `case.json`.

use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use understudy_pipelines::config::{Filter, ImageConfig};
use understudy_pipelines::decode::DecodedImage;
use understudy_pipelines::transform::{eval_crop, resize};

use crate::cases;

/// Reads a tensor `[height, width, 3]` of bytes as an image.
fn image(tensors: &SafeTensors, name: &str) -> DecodedImage {
    let tensor = tensors.tensor(name).unwrap();
    assert_eq!(tensor.dtype(), Dtype::U8, "{name}");
    let [height, width, 3] = *tensor.shape() else {
        panic!("{name} is not [height, width, 3]")
    };
    DecodedImage {
        width: width as u32,
        height: height as u32,
        pixels: tensor.data().to_vec(),
    }
}

/// Returns the numbers in a name such as `short36.crop32` or `80x80`, in order.
fn numbers(name: &str) -> Vec<u32> {
    name.split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

/// Computes the expected tensor `name` from a case's input; `None` for tensors of other kinds. The
/// name has `FILTER.HEIGHTxWIDTH` for a resize and `shortSIDE.cropSIZE` for a centre crop.
fn ours(input: &DecodedImage, name: &str) -> Option<Vec<u8>> {
    if let Some(what) = name.strip_prefix("resized_u8_hwc.") {
        let (filter, size) = what.split_once('.')?;
        let filter = serde_json::from_value(Value::String(filter.to_owned())).unwrap();
        let [height, width] = numbers(size)[..] else {
            return None;
        };
        Some(resize(input, width, height, filter).pixels)
    } else {
        let [eval_resize, size] = numbers(name.strip_prefix("eval_recipe_u8_hwc.")?)[..] else {
            return None;
        };
        let config = ImageConfig {
            size,
            eval_resize,
            crop_scale: [1.0; 2],
            crop_ratio: [1.0; 2],
            filter: Filter::Bicubic,
            flip_prob: 0.0,
            color_jitter: 0.0,
            mean: [0.5; 3],
            std: [0.5; 3],
        };
        Some(eval_crop(input, &config))
    }
}

/// Compares the tensors of one case; returns how many.
fn check_case(folder: &Path, case: &Value) -> usize {
    let allowed = case["tolerance"]["pixels_u8"]["abs"].as_u64().unwrap();
    let bytes = std::fs::read(folder.join("io.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let input = image(&tensors, "in.image_hwc");
    let mut n_checked = 0;
    for name in tensors.names() {
        let Some(ours) = ours(&input, name) else {
            continue;
        };
        let theirs = image(&tensors, name).pixels;
        assert_eq!(ours.len(), theirs.len(), "{name}");
        let worst = ours
            .iter()
            .zip(&theirs)
            .map(|(a, b)| a.abs_diff(*b))
            .max()
            .unwrap();
        assert!(
            u64::from(worst) <= allowed,
            "{}: {name}: {worst} levels off",
            folder.display()
        );
        n_checked += 1;
    }
    n_checked
}

#[test]
fn resize_and_centre_crop_match_golden_images() {
    for (folder, case) in cases("hf_image_preprocess") {
        let n_checked = check_case(&folder, &case);
        assert!(n_checked > 0, "{}: nothing to compare", folder.display());
    }
}
