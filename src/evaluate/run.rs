//! `understudy evaluate`: a run's encoder on the sets that its config names.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use understudy_pipelines::batch::Batch;
use understudy_pipelines::store::Folder;

use super::{Encoder as Row, EvaluateError, Of, Table, compare};
use crate::batch;
use crate::config::Overrides;
use crate::model::{self, Encoder, EncoderConfig, Media};
use crate::objective::Data2Vec;
use crate::pretrained::{Pretrained, PretrainedError, Whose};
use crate::vectors::Vectors;

/// Why a run cannot be evaluated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunEvaluateError {
    /// There is no encoder.
    #[error(transparent)]
    Pretrained(#[from] PretrainedError),
    /// The sets.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
}

/// Compares the encoder at `run` (a run or a checkpoint) with the same one untrained and with
/// features without learning, and writes the table to the run's folder as
/// `evaluate-step-N-WEIGHTS.json` (of frames, `evaluate-step-N-WEIGHTS-frames.json`).
///
/// `overrides` change the run's config. The run may also be an imported model.
pub fn run(
    run: &Folder,
    whose: Option<Whose>,
    of: Of,
    overrides: &Overrides,
    device: &Device,
) -> Result<Table, RunEvaluateError> {
    let mut pretrained = Pretrained::open(run, whose, overrides)?;
    let config = &mut pretrained.config;
    config.threads.resolve();
    crate::device::set_compute_threads(&config.threads);

    let encoder = pretrained.encoder(device)?;
    let config = &pretrained.config;
    let untrained = Data2Vec::initialised(config.model.clone(), config.seed, device);
    let untrained = untrained.student.valid().encoder;

    let vectors = |encoder: &Encoder, batch: Batch| {
        let media = batch::media(batch.media, batch.n_samples, &config.data, device).0;
        let config = config.model.encoder();
        match (of, config) {
            (Of::Frames, _) => {
                Vectors::per_position(encoder.features(config, &media), media.n_positions(config))
            }
            (Of::Samples, EncoderConfig::Audio(_)) => {
                Vectors::pooled(statistics(encoder, config, &media))
            }
            (Of::Samples, _) => Vectors::pooled(encoder.pooled(config, &media)),
        }
    };
    let name = pretrained.whose.name();
    let encoders: Vec<Row<'_>> = vec![
        (name, Box::new(|batch| vectors(&encoder, batch))),
        ("untrained", Box::new(|batch| vectors(&untrained, batch))),
    ];
    let threads = config.threads.data.unwrap_or(1);
    let kind = (&config.data, &config.model);
    let trained = pretrained.vocabulary_sha256.as_deref();
    let table = compare(kind, trained, of, encoders, config.seed, threads, device)?;
    match write(&table, &pretrained) {
        Ok(url) => tracing::info!("kept in {url}"),
        Err(error) => tracing::warn!("the table is not kept: {error}"),
    }
    Ok(table)
}

/// Mean and standard deviation over time, `[B, 2·D]`: what the log-mel spectrogram beside it gets.
fn statistics(encoder: &Encoder, config: EncoderConfig<'_>, media: &Media) -> Tensor<2> {
    let features = encoder.features(config, media);
    let mean = |values: Tensor<3>| model::mean(values, media.padding(config));
    let means = mean(features.clone());
    let squares = mean(features.square());
    let variances = (squares - means.clone().square()).clamp_min(0.0);
    Tensor::cat(vec![means, variances.sqrt()], 1)
}

/// Writes the table to the run's folder, for a checkpoint may be removed later. Returns where.
fn write(table: &Table, pretrained: &Pretrained) -> Result<String, understudy_pipelines::Error> {
    let parent = pretrained.folder.parent();
    let step = parent.as_ref().map_or("step", |(_, name)| name);
    let of = match table.of {
        Of::Samples => "",
        Of::Frames => "-frames",
    };
    let name = format!("evaluate-{step}-{}{of}.json", pretrained.whose.name());
    let run = parent
        .as_ref()
        .and_then(|(parent, _)| match parent.parent() {
            Some((run, folder)) if folder == "checkpoints" => Some(run),
            _ => None,
        });
    let folder = run.as_ref().unwrap_or(&pretrained.folder);
    folder.write(&name, table.to_json())?;
    Ok(folder.url_of(&name))
}
