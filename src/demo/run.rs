//! `understudy demo`: from nothing to a trained encoder and its evaluation.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use burn::tensor::Device;
use understudy_pipelines::write::{
    Check, Encode, EncodeOptions, ImageOptions, WriteOptions, write,
};

use crate::config::{ConfigError, Overrides, RunConfig};
use crate::evaluate::{self, Row, Table};
use crate::exit_code::{ExitCode, FAILED, USAGE};
use crate::train::{Ending, Resume, TrainError, train};
use crate::{objective::Network, params};

/// Why the demo stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DemoError {
    /// The images could not be drawn.
    #[error("cannot draw images: {path}: {source}")]
    Io {
        /// Path of the folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The path is not UTF-8, so no config can contain it.
    #[error("unsupported folder name, not UTF-8: {}\nhint: choose another with --dir", .0.display())]
    Path(PathBuf),
    /// Writing shards failed.
    #[error(transparent)]
    Write(#[from] understudy_pipelines::Error),
    /// The demo's changes do not fit its config.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Training failed.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// Evaluating failed.
    #[error(transparent)]
    Evaluate(#[from] evaluate::RunEvaluateError),
}

impl ExitCode for DemoError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Io { .. } => FAILED,
            Self::Path(_) => USAGE,
            Self::Write(error) => error.exit_code(),
            Self::Config(error) => error.exit_code(),
            Self::Train(error) => error.exit_code(),
            Self::Evaluate(error) => error.exit_code(),
        }
    }
}

/// The demo's config, in the binary so that the demo runs from any folder.
const RECIPE: &str = include_str!("../../configs/tiny-image.toml");

/// The demo's changes to it: a run of a few minutes.
const SHORTER: [&str; 4] = [
    "steps=800",
    "optim.schedule.cosine.warmup_steps=80",
    "ema.anneal_steps=400",
    "train.save_every=200",
];

/// Draws images, writes shards, trains and evaluates, all below `folder`.
///
/// # Errors
///
/// [`DemoError`], by stage.
pub fn run(folder: &Path, device: &Device) -> Result<Ending, DemoError> {
    let [images, dataset, run] = ["images", "dataset", "training"].map(|name| folder.join(name));
    tracing::info!("1/4  drawing images (synthetic: eight classes of patterns)");
    write_dataset(&dataset, &images, 2000, 500, 1)?;
    tracing::info!("2/4  wrote shards to {}", dataset.display());

    let mut changes: Vec<String> = SHORTER.map(str::to_owned).to_vec();
    changes.push(format!("data.train={}", absolute(&dataset.join("train"))?));
    changes.push(format!("data.val={}", absolute(&dataset.join("val"))?));
    let config = RunConfig::parse(
        Path::new("configs/tiny-image.toml"),
        RECIPE,
        &Overrides::set(changes),
    )?;
    let n_params = params::count(&Network::teacher(&config.model, device));
    tracing::info!(
        "3/4  training data2vec 2.0: an encoder of {:.1} million parameters",
        n_params as f64 / 1e6
    );
    if train(config, &run.as_path().into(), &Resume::Auto.into(), device)? == Ending::Interrupted {
        return Ok(Ending::Interrupted);
    }

    tracing::info!("4/4  evaluating: k-NN and a linear probe on frozen features");
    let table = evaluate::run(
        &run.as_path().into(),
        None,
        evaluate::EvalUnit::Samples,
        &Overrides::default(),
        device,
    )?;
    for line in table.to_string().lines() {
        tracing::info!("{line}");
    }
    tracing::info!(
        "the trained encoder is {} in every column",
        if is_ahead(&table) {
            "ahead"
        } else {
            "not ahead"
        }
    );
    tracing::info!(
        "the run is in {}: config.toml, metrics.jsonl, checkpoints/",
        run.display()
    );
    tracing::info!("your own images: shards write FOLDER --to data/mine --schema image");
    Ok(Ending::Finished)
}

/// Returns whether the first encoder, the trained one, has the highest figure in every column.
fn is_ahead(table: &Table) -> bool {
    let columns = |row: &Row| [row.knn_top1, Some(row.probe_top1), row.probe_top5];
    let Some((trained, others)) = table.rows.split_first() else {
        return false;
    };
    others.iter().all(|other| {
        let pairs = columns(trained).into_iter().zip(columns(other));
        pairs
            .into_iter()
            .all(|(trained, other)| trained.is_none() || trained > other)
    })
}

/// Draws `n_train` and `n_val` images below `images` and writes them as the datasets `train` and
/// `val` below `dataset`; a dataset that is complete is kept.
///
/// # Errors
///
/// [`DemoError::Io`], [`DemoError::Path`] and [`DemoError::Write`].
pub fn write_dataset(
    dataset: &Path,
    images: &Path,
    n_train: usize,
    n_val: usize,
    seed: u64,
) -> Result<(), DemoError> {
    super::render(images, seed, n_train, n_val).map_err(|source| DemoError::Io {
        path: images.to_owned(),
        source,
    })?;
    let options = WriteOptions {
        sources: vec![images.to_owned()],
        to: utf8(dataset)?,
        columns: std::collections::BTreeMap::new(),
        labels: None,
        encode: EncodeOptions::Image(ImageOptions {
            resize_short: None,
            quality: 90,
            encode: Encode::Keep,
            check: Check::Decode,
        }),
        shard_bytes: 4 << 20,
        row_group_bytes: 1 << 20,
        threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
    };
    write(&options, &mut |_| (), &AtomicBool::new(false))?;
    Ok(())
}

fn absolute(path: &Path) -> Result<String, DemoError> {
    let absolute = std::path::absolute(path).map_err(|source| DemoError::Io {
        path: path.to_owned(),
        source,
    })?;
    utf8(&absolute)
}

fn utf8(path: &Path) -> Result<String, DemoError> {
    let text = path
        .to_str()
        .ok_or_else(|| DemoError::Path(path.to_owned()))?;
    Ok(text.to_owned())
}
