//! Compares encoders with each other and with the baseline.

use burn::tensor::Device;
use understudy_pipelines::DataConfig;
use understudy_pipelines::config::Modality;

use super::error::EvaluateError;
use super::features::NamedEncoder;
use super::table::{EvalUnit, Row, Table};
use super::{baselines, features};
use crate::objective::ModelConfig;

/// Evaluates every encoder of the kind `model`, and then features without learning, on `data.train`
/// and `data.val`.
///
/// Each encoder takes its own pass over both sets, so that only one's features are in memory.
/// `threads` decode; `seed` chooses the samples that the probe holds out. The encoders must hold
/// inner (not autodiff) tensors, and `device` must be an inner one. `trained` is the SHA-256 of the
/// vocabulary files that the first encoder was trained with.
pub fn compare(
    (data, model): (&DataConfig, &ModelConfig),
    mut trained: Option<&str>,
    unit: EvalUnit,
    encoders: Vec<NamedEncoder<'_>>,
    seed: u64,
    threads: usize,
    device: &Device,
) -> Result<Table, EvaluateError> {
    if unit == EvalUnit::Frames && data.modality() != Some(Modality::Audio) {
        return Err(EvaluateError::NoFrames);
    }
    let baseline = baselines::baseline(data, unit, threads, device)?;
    let mut table = Table {
        unit,
        train: data.train.to_string(),
        val: data.val.clone().unwrap_or_default(),
        n_train: 0,
        n_val: 0,
        n_classes: 0,
        rows: Vec::new(),
    };
    for (name, encode) in encoders.into_iter().chain([baseline]) {
        let split = features::split((data, model), trained.take(), threads, encode)?;
        table.rows.push(Row::new(name, &split, seed, device));
        (table.n_train, table.n_val) = (split.train.n_samples(), split.val.n_samples());
        table.n_classes = split.n_classes;
    }
    Ok(table)
}
