//! Resize and centre crop against golden pictures: every case of the parity folder whose kind is
//! `hf_image_preprocess`, with the tolerance of its `case.json`.

use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use super::{eval_crop, resize};
use crate::config::{Filter, ImageConfig};
use crate::decode::Picture;

/// A tensor `[height, width, 3]` of bytes as a picture.
fn picture(tensors: &SafeTensors, name: &str) -> Picture {
    let tensor = tensors.tensor(name).unwrap();
    assert_eq!(tensor.dtype(), Dtype::U8, "{name}");
    let [height, width, 3] = *tensor.shape() else {
        panic!("{name} is not [height, width, 3]")
    };
    Picture {
        width: width as u32,
        height: height as u32,
        pixels: tensor.data().to_vec(),
    }
}

/// The numbers in a name such as `short36.crop32` or `80x80`, in order.
fn numbers(name: &str) -> Vec<u32> {
    name.split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

/// What we make of a case's input where it expects `name`; `None` for tensors of other kinds.
/// Names say `FILTER.HEIGHTxWIDTH` of a resize and `shortSIDE.cropSIZE` of a centre crop.
fn ours(input: &Picture, name: &str) -> Option<Vec<u8>> {
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

/// Compares one case's tensors; gives how many.
fn check_case(folder: &Path, case: &Value) -> usize {
    let allowed = case["tolerance"]["pixels_u8"]["abs"].as_u64().unwrap();
    let bytes = std::fs::read(folder.join("io.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let input = picture(&tensors, "in.image_hwc");
    let mut n_checked = 0;
    for name in tensors.names() {
        let Some(ours) = ours(&input, name) else {
            continue;
        };
        let theirs = picture(&tensors, name).pixels;
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
fn golden_pictures_are_met() {
    let parity = std::env::var_os("UNDERSTUDY_PARITY").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/parity"),
        PathBuf::from,
    );
    let Ok(folders) = std::fs::read_dir(&parity) else {
        println!("skipped: no golden data in {}", parity.display());
        return;
    };
    for folder in folders {
        let folder = folder.unwrap().path();
        let Ok(case) = std::fs::read(folder.join("case.json")) else {
            continue;
        };
        let case: Value = serde_json::from_slice(&case).unwrap();
        if case["kind"] == "hf_image_preprocess" {
            assert!(
                check_case(&folder, &case) > 0,
                "{}: nothing to compare",
                folder.display()
            );
        }
    }
}
