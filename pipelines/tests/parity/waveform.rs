//! Normalisation against golden waveforms: every case of the parity folder whose kind is
//! `hf_audio_preprocess`, with the tolerance of its `case.json`.

use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use understudy_pipelines::transform::waveform::normalise;

use crate::cases;

/// Reads the waveforms of a tensor `[T]` or `[B, T]`; 16-bit values become floats as in a decoder.
fn waveforms(tensors: &SafeTensors, name: &str) -> Vec<Vec<f32>> {
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
    // A normalised constant is the rounding error of its mean.
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

/// Compares the tensors of one case; returns how many.
fn check_case(folder: &Path, case: &Value) -> usize {
    let tolerance = &case["tolerance"]["outputs"];
    let bytes = std::fs::read(folder.join("io.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut n_checked = 0;
    for name in tensors.names() {
        let (input, eps) = if let Some(input) = name.strip_prefix("normalized.") {
            (input.split('_').next().unwrap(), 1e-7)
        } else if let Some(input) = name.strip_prefix("fairseq_layer_norm.") {
            (input, 1e-5)
        } else {
            continue;
        };
        let mut ours = waveforms(&tensors, &format!("in.raw.{input}")).remove(0);
        normalise(&mut ours, eps);
        check(name, &ours, &waveforms(&tensors, name)[0], tolerance);
        n_checked += 1;
    }
    // A padded batch: each waveform is normalised on its own, with zeros after it.
    let padded = waveforms(&tensors, "batch.input_values");
    let valid = waveforms(&tensors, "batch.attention_mask");
    for (i, (padded, valid)) in padded.iter().zip(&valid).enumerate() {
        let mut ours = waveforms(&tensors, &format!("in.batch.raw.{i}")).remove(0);
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
fn normalise_matches_golden_waveforms() {
    for (folder, case) in cases("hf_audio_preprocess") {
        let n_checked = check_case(&folder, &case);
        assert!(n_checked > 0, "{}: nothing to compare", folder.display());
    }
}
