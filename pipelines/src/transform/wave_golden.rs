//! Normalisation against golden waves: every case of the parity folder whose kind is
//! `hf_audio_preprocess`, with the tolerance of its `case.json`.

use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use super::wave::normalise;

/// The waves of a tensor `[T]` or `[B, T]`; 16-bit ones become floats as decoders make them.
fn waves(tensors: &SafeTensors, name: &str) -> Vec<Vec<f32>> {
    let tensor = tensors.tensor(name).unwrap();
    let n_frames = *tensor.shape().last().unwrap();
    let values: Vec<f32> = match tensor.dtype() {
        Dtype::F32 => {
            let (values, _) = tensor.data().as_chunks::<4>();
            values
                .iter()
                .map(|value| f32::from_le_bytes(*value))
                .collect()
        }
        Dtype::I16 => {
            let (values, _) = tensor.data().as_chunks::<2>();
            let value = |value: &[u8; 2]| f32::from(i16::from_le_bytes(*value)) / 32768.0;
            values.iter().map(value).collect()
        }
        Dtype::I64 => {
            let (values, _) = tensor.data().as_chunks::<8>();
            values
                .iter()
                .map(|value| i64::from_le_bytes(*value) as f32)
                .collect()
        }
        other => panic!("{name} is {other:?}"),
    };
    values.chunks(n_frames).map(<[f32]>::to_vec).collect()
}

fn check(name: &str, ours: &[f32], theirs: &[f32], tolerance: &Value) {
    assert_eq!(ours.len(), theirs.len(), "{name}");
    let largest = theirs
        .iter()
        .fold(0.0, |most, value| f32::max(most, value.abs()));
    let number = |key: &str| tolerance[key].as_f64().unwrap() as f32;
    // What a constant becomes is the rounding of its mean.
    let allowed = if name.ends_with("constant") {
        1e-3
    } else {
        number("rel_to_max") * largest + number("abs")
    };
    for (ours, theirs) in ours.iter().zip(theirs) {
        assert!(
            (ours - theirs).abs() <= allowed,
            "{name}: {ours}, not {theirs}"
        );
    }
}

/// Compares one case's tensors; gives how many.
fn check_case(folder: &Path, case: &Value) -> usize {
    let tolerance = &case["tolerance"]["outputs"];
    let bytes = std::fs::read(folder.join("io.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut n_checked = 0;
    for name in tensors.names() {
        let (input, eps) = if let Some(which) = name.strip_prefix("normalized.") {
            (which.split('_').next().unwrap(), 1e-7)
        } else if let Some(which) = name.strip_prefix("fairseq_layer_norm.") {
            (which, 1e-5)
        } else {
            continue;
        };
        let mut ours = waves(&tensors, &format!("in.raw.{input}")).remove(0);
        normalise(&mut ours, eps);
        check(name, &ours, &waves(&tensors, name)[0], tolerance);
        n_checked += 1;
    }
    // A padded batch: each wave on its own, zeros behind.
    let padded = waves(&tensors, "batch.input_values");
    let valid = waves(&tensors, "batch.attention_mask");
    for (i, (padded, valid)) in padded.iter().zip(&valid).enumerate() {
        let mut ours = waves(&tensors, &format!("in.batch.raw.{i}")).remove(0);
        assert_eq!(
            ours.len(),
            valid.iter().filter(|&&valid| valid > 0.0).count()
        );
        normalise(&mut ours, 1e-7);
        ours.resize(padded.len(), 0.0);
        check("batch.input_values", &ours, padded, tolerance);
        n_checked += 1;
    }
    n_checked
}

#[test]
fn golden_waves_are_met() {
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
        if case["kind"] == "hf_audio_preprocess" {
            let n_checked = check_case(&folder, &case);
            assert!(n_checked > 0, "{}: nothing to compare", folder.display());
        }
    }
}

#[test]
fn silence_and_nothing_stay_what_they_are() {
    for value in [0.0, 0.25, -1.0e-3] {
        let mut frames = [value; 1000];
        normalise(&mut frames, 1e-5);
        assert!(frames.iter().all(|frame| *frame == 0.0));
    }
    normalise(&mut [], 1e-5);
}
