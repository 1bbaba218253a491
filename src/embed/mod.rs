//! `understudy embed`: what an encoder makes of every sample of a set, as shards beside it.
//!
//! The pipeline gives whole samples in the order of the set's files, the encoder makes vectors of
//! them, and a [`FeatureDataset`] keeps these with the keys of their rows. A run that was stopped or
//! killed goes on after its last whole shard, in the same batches as the unbroken run.

mod progress;

use burn::tensor::Device;
use understudy_pipelines::DataConfig;
use understudy_pipelines::batch::Batch;
use understudy_pipelines::config::Modality;
use understudy_pipelines::pipeline::{Options, WholeSet};
use understudy_pipelines::store::Folder;
use understudy_pipelines::write::features::{
    FeatureDataset, FeatureOptions, FeatureReport, FeatureRows, files_xxh3,
};

use self::progress::Progress;
use crate::batch::{self, VocabularyError};
use crate::evaluate::features::batch_size;
use crate::model::{Encoder, EncoderConfig, Media, mean};
use crate::pretrained::{Pretrained, PretrainedError, STUDENT, TEACHER, Whose};
use crate::signals::Signals;
use crate::vectors::Vectors;

/// What to make of which samples, and where it goes.
#[derive(Debug, Clone)]
pub struct Embed {
    /// A run, one of its checkpoints, or an imported model.
    pub model: Folder,
    /// The set: a folder of shards, a shard, or a pattern.
    pub shards: String,
    /// The folder of the features, a path or URL.
    pub to: String,
    /// Whose weights; without a wish the teacher's, if there is one.
    pub whose: Option<Whose>,
    /// Blocks that samples pass, from 0 to the encoder's depth; without it all of them and the
    /// final norm, where there is one.
    pub layer: Option<usize>,
    /// A vector per position, instead of the mean over a sample's positions.
    pub frames: bool,
    /// Changes of the model's config, `key=value`.
    pub set: Vec<String>,
    /// Size at which a shard is closed, in bytes.
    pub shard_bytes: u64,
}

/// Why there are no features.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbedError {
    /// There is no encoder.
    #[error(transparent)]
    Pretrained(#[from] PretrainedError),
    /// A layer that the encoder lacks.
    #[error(
        "--layer {layer}: the encoder in {model} has {depth} blocks; take 0 (what goes into the first) to {depth}"
    )]
    Layer {
        /// The model.
        model: String,
        /// What was asked for.
        layer: usize,
        /// Its blocks.
        depth: usize,
    },
    /// Tokens that the model has no embedding for.
    #[error(transparent)]
    Vocabulary(#[from] VocabularyError),
    /// The set, or the folder of the features.
    #[error(transparent)]
    Data(#[from] understudy_pipelines::Error),
}

/// Writes the features of all good samples, or what is missing of them, by an encoder on `device`.
///
/// SIGINT and SIGTERM end it after the batch at hand, with the shard closed:
/// [`End::Interrupted`](understudy_pipelines::write::End).
pub fn embed(wanted: &Embed, device: &Device) -> Result<FeatureReport, EmbedError> {
    let signals = Signals::watch();
    let mut pretrained = Pretrained::open(&wanted.model, wanted.whose, &wanted.set)?;
    pretrained.config.threads.resolve();
    let config = &pretrained.config;
    crate::device::set_compute_threads(&config.threads);
    let depth = config.model.encoder().depth();
    if let Some(layer) = wanted.layer.filter(|layer| *layer > depth) {
        let model = pretrained.folder.url();
        return Err(EmbedError::Layer {
            model,
            layer,
            depth,
        });
    }

    let source = WholeSet::open(&config.data, &wanted.shards, batch_size(&config.data), 1)?;
    let n_rows = source.set().rows;
    batch::check_vocabulary(&config.model, &wanted.shards, source.specials())?;
    let trained = pretrained.vocabulary_sha256.as_deref();
    batch::compare_vocabularies(trained, &wanted.shards, source.vocabulary_sha256());
    let options = feature_options(wanted, &pretrained)?;
    let mut features = match FeatureDataset::open(&options, source.set())? {
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
    let mut progress = Progress::new(&wanted.to, n_rows, features.next_row());
    for batch in source.keyed(features.next_row(), &pass)? {
        let Batch {
            media,
            n_samples,
            keys,
            samples,
            ..
        } = batch?;
        let media = batch::media(media, n_samples, &config.data, device).0;
        let vectors = vectors(&encoder, config.model.encoder(), &media, wanted);
        features.add(&FeatureRows {
            samples: &samples,
            keys: &keys,
            n_vectors: vectors.of_each.as_deref(),
            values: &vectors.values,
        })?;
        progress.show(features.next_row());
        if signals.received() {
            return Ok(features.interrupt()?);
        }
    }
    Ok(features.finish()?)
}

fn vectors(encoder: &Encoder, config: EncoderConfig<'_>, media: &Media, wanted: &Embed) -> Vectors {
    let hidden = match wanted.layer {
        Some(n_blocks) => encoder.hidden(config, media, n_blocks),
        None => encoder.features(config, media),
    };
    if wanted.frames {
        Vectors::per_position(hidden, media.n_positions(config))
    } else {
        Vectors::pooled(mean(hidden, media.padding(config)))
    }
}

/// What tells these features from others.
fn feature_options(wanted: &Embed, pretrained: &Pretrained) -> Result<FeatureOptions, EmbedError> {
    let files = match pretrained.whose {
        Whose::Teacher => [STUDENT, TEACHER].as_slice(),
        Whose::Student => &[STUDENT],
    };
    let layer = wanted
        .layer
        .map_or("last".into(), |layer| layer.to_string());
    let frames = if wanted.frames {
        "per position"
    } else {
        "mean"
    };
    let encoder = serde_json::to_string(&pretrained.config.model)
        .expect("a table of numbers and names becomes JSON");
    let settings = [
        ("model_xxh3", files_xxh3(&pretrained.folder, files)?),
        ("encoder", encoder),
        ("weights", pretrained.whose.name().to_owned()),
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
        to: wanted.to.clone(),
        source: wanted.shards.clone(),
        dim: pretrained.config.model.encoder().embed_dim(),
        per_position: wanted.frames,
        settings: settings.into_iter().map(named).collect(),
        about: about.into_iter().map(named).collect(),
        shard_bytes: wanted.shard_bytes,
    })
}

/// How rows become samples, as JSON.
fn samples(data: &DataConfig) -> String {
    let json = match data.modality() {
        Some(Modality::Image(image)) => serde_json::to_string(image),
        Some(Modality::Audio(audio)) => serde_json::to_string(audio),
        Some(Modality::Text(text)) => serde_json::to_string(text),
        None => unreachable!("a config without problems has one modality"),
    };
    json.expect("a table of numbers and names becomes JSON")
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
    fn padding_is_in_no_vector() {
        let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/configs/tiny-audio.toml");
        let config = RunConfig::load(recipe.as_ref(), &[]).expect("a recipe");
        let device = Device::flex();
        let model = Data2Vec::initialised(config.model.clone(), 1, &device);
        let encoder = model.student.valid().encoder;
        let config = config.model.encoder();
        let (long, short) = (4000, 2000);
        let wave = |n: usize| (0..n).map(|i| (i as f32 * 0.1).sin());
        let padded = wave(long).chain(wave(short)).chain(vec![0.0; long - short]);
        let waves = TensorData::new(padded.collect::<Vec<f32>>(), [2, long]);
        let media = Media::Waves {
            waves: Tensor::from_data(waves, &device),
            lengths: Some(vec![long, short]),
        };
        let wanted = |frames| Embed {
            model: Path::new("").into(),
            shards: String::new(),
            to: String::new(),
            whose: None,
            layer: None,
            frames,
            set: Vec::new(),
            shard_bytes: 1,
        };
        let frames = vectors(&encoder, config, &media, &wanted(true));
        let pooled = vectors(&encoder, config, &media, &wanted(false));
        let (of_each, dim) = (frames.of_each.expect("counts"), config.embed_dim());
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
