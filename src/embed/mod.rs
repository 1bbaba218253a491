//! `understudy embed`: writes an encoder's features of every sample of a dataset as shards.
//!
//! The pipeline reads uncropped samples in the order of the dataset's files, the encoder computes
//! their features, and a [`FeatureDataset`] writes these with the keys of their rows. A command that was
//! stopped or killed resumes after its last complete shard, with the same batches as an
//! uninterrupted one.

mod progress;

use burn::tensor::Device;
use understudy_pipelines::DataConfig;
use understudy_pipelines::batch::Batch;
use understudy_pipelines::config::MediaConfig;
use understudy_pipelines::pipeline::{OnePass, Options};
use understudy_pipelines::store::Folder;
use understudy_pipelines::write::features::{
    FeatureDataset, FeatureOptions, FeatureReport, FeatureRows, files_xxh3,
};

use self::progress::Progress;
use crate::checkpoint::layout::{STUDENT, TEACHER};
use crate::checkpoint::pretrained::{Pretrained, PretrainedError, Weights};
use crate::config::Overrides;
use crate::evaluate::features::batch_size;
use crate::exit_code::{ExitCode, FAILED, USAGE};
use crate::model::{
    self, Encoder, EncoderConfig, EncoderInput, FeatureVectors, VocabularyError, mean,
};
use crate::signals::Signals;

/// Options of [`embed`].
#[derive(Debug, Clone)]
pub struct Embed {
    /// A run, one of its checkpoints, or an imported model.
    pub model: Folder,
    /// The dataset: a folder of shards, a shard, or a pattern.
    pub shards: String,
    /// The folder of the features, a path or URL.
    pub to: String,
    /// Weights; without them the teacher's, or the student's where there is no teacher.
    pub weights: Option<Weights>,
    /// Number of blocks to apply, from 0 to the encoder's depth; without it all of them and
    /// the final norm, where there is one.
    pub layer: Option<usize>,
    /// Whether to write a vector per position instead of the mean over positions.
    pub frames: bool,
    /// Overrides of the model's config, `key=value`.
    pub overrides: Overrides,
    /// Size at which a shard is closed, in bytes.
    pub shard_bytes: u64,
}

/// Why features could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbedError {
    /// The encoder cannot be loaded.
    #[error(transparent)]
    Pretrained(#[from] PretrainedError),
    /// The encoder has no such layer.
    #[error(
        "invalid --layer {layer}: the encoder has {depth} blocks: {model}\n\
         hint: choose 0 (input of the first block) to {depth}"
    )]
    Layer {
        /// Path or URL of the model.
        model: String,
        /// Value of `--layer`.
        layer: usize,
        /// Number of blocks.
        depth: usize,
    },
    /// The dataset's tokens do not fit the model.
    #[error(transparent)]
    Vocabulary(#[from] VocabularyError),
    /// The dataset cannot be read, or the features cannot be written.
    #[error(transparent)]
    Data(#[from] understudy_pipelines::Error),
}

impl ExitCode for EmbedError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Layer { .. } => USAGE,
            Self::Pretrained(error) => error.exit_code(),
            Self::Vocabulary(_) => FAILED,
            Self::Data(error) => error.exit_code(),
        }
    }
}

/// Writes the features of all good samples, or the missing ones of an interrupted command, with the
/// encoder on `device`.
///
/// A signal (SIGINT, SIGTERM, SIGHUP or SIGUSR1) ends it after the current batch, with the shard
/// closed: [`End::Interrupted`](understudy_pipelines::write::End).
pub fn embed(options: &Embed, device: &Device) -> Result<FeatureReport, EmbedError> {
    let signals = Signals::watch();
    let mut pretrained = Pretrained::open(&options.model, options.weights, &options.overrides)?;
    pretrained.config.threads.resolve();
    let config = &pretrained.config;
    crate::device::set_compute_threads(&config.threads);
    let depth = config.model.encoder().depth();
    if let Some(layer) = options.layer.filter(|layer| *layer > depth) {
        let model = pretrained.folder.url();
        return Err(EmbedError::Layer {
            model,
            layer,
            depth,
        });
    }

    let source = OnePass::open(&config.data, &options.shards, batch_size(&config.data), 1)?;
    let n_rows = source.dataset().rows;
    model::check_vocabulary(
        config.model.encoder(),
        &options.shards,
        source.special_tokens(),
    )?;
    let trained = pretrained.vocabulary_sha256.as_deref();
    model::compare_vocabularies(trained, &options.shards, source.vocabulary_sha256());
    let feature_options = feature_options(options, &pretrained)?;
    let mut features = match FeatureDataset::open(&feature_options, source.dataset())? {
        FeatureDataset::Finished(report) => return Ok(report),
        FeatureDataset::Unfinished(features) => features,
    };
    let encoder = pretrained.encoder(device)?;

    let pass = Options {
        threads: config.threads.data.unwrap_or(1),
        bad_rows: features.bad_rows().to_vec(),
        quarantine: Some(features.quarantine_path().to_owned()),
        ..Options::default()
    };
    let mut progress = Progress::new(&options.to, n_rows, features.next_row());
    for batch in source.keyed(features.next_row(), &pass)? {
        let Batch {
            media,
            n_samples,
            keys,
            samples,
            ..
        } = batch?;
        let media = model::to_device(media, n_samples, &config.data, device).0;
        let vectors = vectors(&encoder, config.model.encoder(), &media, options);
        features.add(&FeatureRows {
            samples: &samples,
            keys: &keys,
            n_vectors: vectors.n_per_sample.as_deref(),
            values: &vectors.values,
        })?;
        progress.show(features.next_row());
        if signals.received() {
            return Ok(features.interrupt()?);
        }
    }
    Ok(features.finish()?)
}

/// Computes the features of a batch.
fn vectors(
    encoder: &Encoder,
    config: EncoderConfig<'_>,
    media: &EncoderInput,
    options: &Embed,
) -> FeatureVectors {
    let hidden = match options.layer {
        Some(n_blocks) => encoder.hidden(config, media, n_blocks),
        None => encoder.features(config, media),
    };
    if options.frames {
        FeatureVectors::per_position(hidden, media.n_positions(config))
    } else {
        FeatureVectors::pooled(mean(hidden, media.padding(config)))
    }
}

/// Returns the settings that identify these features: only the same settings can resume.
fn feature_options(options: &Embed, pretrained: &Pretrained) -> Result<FeatureOptions, EmbedError> {
    let files = match pretrained.weights {
        Weights::Teacher => [STUDENT, TEACHER].as_slice(),
        Weights::Student => &[STUDENT],
    };
    let layer = options
        .layer
        .map_or("last".into(), |layer| layer.to_string());
    let frames = if options.frames {
        "per position"
    } else {
        "mean"
    };
    let encoder = serde_json::to_string(&pretrained.config.model)
        .expect("a config of numbers and strings becomes JSON");
    let settings = [
        ("model_xxh3", files_xxh3(&pretrained.folder, files)?),
        ("encoder", encoder),
        ("weights", pretrained.weights.name().to_owned()),
        ("layer", layer),
        ("frames", frames.to_owned()),
        ("samples", samples(&pretrained.config.data)),
    ];
    let model = match pretrained.folder.local().map(std::path::absolute) {
        Some(Ok(path)) => path.display().to_string(),
        _ => pretrained.folder.url(),
    };
    let about = [("model", model)];
    let named = |(name, value): (&str, String)| (name.to_owned(), value);
    Ok(FeatureOptions {
        to: options.to.clone(),
        source: options.shards.clone(),
        dim: pretrained.config.model.encoder().embed_dim(),
        per_position: options.frames,
        settings: settings.into_iter().map(named).collect(),
        about: about.into_iter().map(named).collect(),
        shard_bytes: options.shard_bytes,
    })
}

/// Returns the modality's config, which determines how rows become samples, as JSON.
fn samples(data: &DataConfig) -> String {
    let json = match data.media() {
        Some(MediaConfig::Image(image)) => serde_json::to_string(image),
        Some(MediaConfig::Audio(audio)) => serde_json::to_string(audio),
        Some(MediaConfig::Text(text)) => serde_json::to_string(text),
        None => unreachable!("a valid config has one modality"),
    };
    json.expect("a config of numbers and strings becomes JSON")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use burn::module::Module;
    use burn::tensor::{Tensor, TensorData};

    use super::*;
    use crate::config::RunConfig;
    use crate::objective::Data2Vec;

    #[test]
    fn padding_does_not_change_features() {
        let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/configs/tiny-audio.toml");
        let config = RunConfig::load(recipe.as_ref(), &Overrides::default()).expect("a recipe");
        let device = Device::flex();
        let model = Data2Vec::initialised(config.model.clone(), 1, &device);
        let encoder = model.student.valid().encoder;
        let config = config.model.encoder();
        let (long, short) = (4000, 2000);
        let sine = |n: usize| (0..n).map(|i| (i as f32 * 0.1).sin());
        let padded = sine(long).chain(sine(short)).chain(vec![0.0; long - short]);
        let waveforms = TensorData::new(padded.collect::<Vec<f32>>(), [2, long]);
        let media = EncoderInput::Waveforms {
            waveforms: Tensor::from_data(waveforms, &device),
            lengths: Some(vec![long, short]),
        };
        let options = |frames| Embed {
            model: Path::new("").into(),
            shards: String::new(),
            to: String::new(),
            weights: None,
            layer: None,
            frames,
            overrides: Overrides::default(),
            shard_bytes: 1,
        };
        let frames = vectors(&encoder, config, &media, &options(true));
        let pooled = vectors(&encoder, config, &media, &options(false));
        let (of_each, dim) = (frames.n_per_sample.expect("counts"), config.embed_dim());
        assert!(of_each[0] > of_each[1] && of_each[1] > 0, "{of_each:?}");
        assert_eq!(frames.values.len(), (of_each[0] + of_each[1]) * dim);
        assert_eq!(pooled.values.len(), 2 * dim);
        let (first, second) = frames.values.split_at(of_each[0] * dim);
        for (own, mean) in [first, second].into_iter().zip(pooled.values.chunks(dim)) {
            for (channel, mean) in mean.iter().enumerate() {
                let of_channel = own.iter().skip(channel).step_by(dim);
                let sum: f32 = of_channel.sum();
                let n = (own.len() / dim) as f32;
                assert!((sum / n - mean).abs() < 1e-4, "{} {mean}", sum / n);
            }
        }
    }
}
