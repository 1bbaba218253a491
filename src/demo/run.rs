//! `understudy demo`: from nothing to a trained encoder and what it is worth.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use anyhow::Context;
use burn::tensor::Device;
use understudy_pipelines::write::{
    Check, Encode, EncodeOptions, ImageOptions, WriteOptions, write,
};

use crate::config::RunConfig;
use crate::train::{Ending, Resume, train};
use crate::{evaluate, objective::Network, params};

/// The demo's recipe, in the binary so that it runs from any folder.
const RECIPE: &str = include_str!("../../configs/tiny-image.toml");

/// What the demo changes: its pictures, and a run of a few minutes.
const SHORTER: [&str; 4] = [
    "steps=800",
    "optim.schedule.cosine.warmup_steps=80",
    "ema.anneal_steps=400",
    "train.save_every=200",
];

/// Draws pictures, writes shards, trains, evaluates; everything goes below `folder`.
pub fn run(folder: &Path, device: &Device) -> anyhow::Result<Ending> {
    let [pictures, set, run] = ["pictures", "shards", "run"].map(|name| folder.join(name));
    tracing::info!("1/4  drawing pictures (synthetic: shapes with textures, eight classes)");
    write_set(&set, &pictures, 2000, 500, 1)?;
    tracing::info!("2/4  wrote shards to {}", set.display());

    let mut changes: Vec<String> = SHORTER.map(str::to_owned).to_vec();
    changes.push(format!("data.train={}", absolute(&set.join("train"))?));
    changes.push(format!("data.val={}", absolute(&set.join("val"))?));
    let config = RunConfig::parse(Path::new("configs/tiny-image.toml"), RECIPE, &changes)?;
    let n_params = params::count(&Network::teacher(&config.model, device));
    tracing::info!(
        "3/4  training data2vec 2.0: an encoder of {:.1} million parameters",
        n_params as f64 / 1e6
    );
    if train(config, &run.as_path().into(), &Resume::Auto, device)? == Ending::Interrupted {
        return Ok(Ending::Interrupted);
    }

    tracing::info!("4/4  evaluating: k-NN and a linear probe on frozen features");
    let table = evaluate::run(
        &run.as_path().into(),
        None,
        evaluate::EvalUnit::Samples,
        &[],
        device,
    )?;
    for line in table.to_string().lines() {
        tracing::info!("{line}");
    }
    tracing::info!(
        "the run lies in {}: config.toml, metrics.jsonl, checkpoints/",
        run.display()
    );
    tracing::info!("pictures of your own: shards write FOLDER --to data/mine --schema image");
    Ok(Ending::Finished)
}

/// Draws `n_train` and `n_val` pictures below `pictures` and writes them as the sets `train` and
/// `val` below `set`; what is there already is kept.
pub fn write_set(
    set: &Path,
    pictures: &Path,
    n_train: usize,
    n_val: usize,
    seed: u64,
) -> anyhow::Result<()> {
    super::render(pictures, seed, n_train, n_val)
        .with_context(|| format!("drawing pictures in {}", pictures.display()))?;
    let options = WriteOptions {
        sources: vec![pictures.to_owned()],
        to: path_of(set)?,
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

fn absolute(path: &Path) -> anyhow::Result<String> {
    path_of(&std::path::absolute(path)?)
}

fn path_of(path: &Path) -> anyhow::Result<String> {
    path.to_str()
        .map(str::to_owned)
        .with_context(|| format!("{} is not UTF-8", path.display()))
}
