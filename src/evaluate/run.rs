//! `understudy evaluate`: evaluates a run's encoder on the datasets that its config names.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use understudy_pipelines::batch::Batch;
use understudy_pipelines::store::Folder;

use super::compare::compare;
use super::error::RunEvaluateError;
use super::features::NamedEncoder;
use super::table::{EvalUnit, Table};
use crate::checkpoint::layout::{CHECKPOINTS, evaluation_file};
use crate::checkpoint::pretrained::{Pretrained, Weights};
use crate::config::Overrides;
use crate::model::{self, Encoder, EncoderConfig, EncoderInput, FeatureVectors};
use crate::objective::Data2Vec;

/// Compares the encoder of `run` (a run, a checkpoint or an imported model) with the same one
/// untrained and with features without learning. Writes the table to the run's folder as
/// `evaluate-step-N-WEIGHTS.json` (of frames, `evaluate-step-N-WEIGHTS-frames.json`).
///
/// Without `weights` the teacher's are used, or the student's where there is no teacher. `set`
/// overrides values of the run's config.
pub fn run(
    run: &Folder,
    weights: Option<Weights>,
    unit: EvalUnit,
    overrides: &Overrides,
    device: &Device,
) -> Result<Table, RunEvaluateError> {
    let mut pretrained = Pretrained::open(run, weights, overrides)?;
    let config = &mut pretrained.config;
    config.threads.resolve();
    crate::device::set_compute_threads(&config.threads);

    let encoder = pretrained.encoder(device)?;
    let config = &pretrained.config;
    let untrained = Data2Vec::initialised(config.model.clone(), config.seed, device);
    let untrained = untrained.student.valid().encoder;

    let vectors = |encoder: &Encoder, batch: Batch| {
        let media = model::to_device(batch.media, batch.n_samples, &config.data, device).0;
        let config = config.model.encoder();
        match (unit, config) {
            (EvalUnit::Frames, _) => FeatureVectors::per_position(
                encoder.features(config, &media),
                media.n_positions(config),
            ),
            (EvalUnit::Samples, EncoderConfig::Audio(_)) => {
                FeatureVectors::pooled(statistics(encoder, config, &media))
            }
            (EvalUnit::Samples, _) => FeatureVectors::pooled(encoder.pooled(config, &media)),
        }
    };
    let name = pretrained.weights.name();
    let encoders: Vec<NamedEncoder<'_>> = vec![
        (name, Box::new(|batch| vectors(&encoder, batch))),
        ("untrained", Box::new(|batch| vectors(&untrained, batch))),
    ];
    let threads = config.threads.data.unwrap_or(1);
    let kind = (&config.data, &config.model);
    let trained = pretrained.vocabulary_sha256.as_deref();
    let table = compare(kind, trained, unit, encoders, config.seed, threads, device)?;
    match write(&table, &pretrained) {
        Ok(url) => tracing::info!("table written to {url}"),
        Err(error) => tracing::warn!("cannot write the table: {error}"),
    }
    Ok(table)
}

/// Returns mean and standard deviation over time, `[B, 2·D]`, as for the log-mel spectrogram.
fn statistics(encoder: &Encoder, config: EncoderConfig<'_>, media: &EncoderInput) -> Tensor<2> {
    let features = encoder.features(config, media);
    let mean = |values: Tensor<3>| model::mean(values, media.padding(config));
    let means = mean(features.clone());
    let squares = mean(features.square());
    let variances = (squares - means.clone().square()).clamp_min(0.0);
    Tensor::cat(vec![means, variances.sqrt()], 1)
}

/// Writes the table to the run's folder, as a checkpoint may be removed later. Returns its URL.
fn write(table: &Table, pretrained: &Pretrained) -> Result<String, understudy_pipelines::Error> {
    let parent = pretrained.folder.parent();
    let checkpoint = parent.as_ref().map_or("step", |(_, name)| name);
    let of_frames = table.unit == EvalUnit::Frames;
    let name = evaluation_file(checkpoint, pretrained.weights.name(), of_frames);
    let run = parent
        .as_ref()
        .and_then(|(parent, _)| match parent.parent() {
            Some((run, folder)) if folder == CHECKPOINTS => Some(run),
            _ => None,
        });
    let folder = run.as_ref().unwrap_or(&pretrained.folder);
    folder.write(&name, table.to_json())?;
    Ok(folder.url_of(&name))
}
