//! Weights computed by a formula, for models too large to store.

use std::collections::BTreeMap;

use burn::tensor::TensorData;
use serde::Deserialize;

/// One entry of `weights_formula.json`.
#[derive(Deserialize)]
struct Entry {
    name: String,
    shape: Vec<usize>,
    k: u32,
    center: f64,
    scale: f64,
    sum_f64: f64,
}

/// Computes the weights by name and checks their sums.
pub(crate) fn weights(formula: serde_json::Value) -> BTreeMap<String, TensorData> {
    let entries: Vec<Entry> = serde_json::from_value(formula).unwrap();
    let tensors = entries.into_iter().map(|entry| {
        let values: Vec<f32> = (0..entry.shape.iter().product::<usize>())
            .map(|i| value(&entry, i as u32))
            .collect();
        let sum: f64 = values.iter().map(|&value| f64::from(value)).sum();
        assert!(
            (sum - entry.sum_f64).abs() <= 1e-9 * values.len() as f64,
            "{}",
            entry.name
        );
        (entry.name, TensorData::new(values, entry.shape))
    });
    tensors.collect()
}

fn value(entry: &Entry, i: u32) -> f32 {
    let mut x = i.wrapping_add(0x9E37_79B9_u32.wrapping_mul(entry.k.wrapping_add(1)));
    x ^= x >> 16;
    x = x.wrapping_mul(0x7feb_352d);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846c_a68b);
    x ^= x >> 16;
    let u = f64::from(x) / 2_f64.powi(32);
    (entry.center + entry.scale * 3_f64.sqrt() * (2.0 * u - 1.0)) as f32
}
