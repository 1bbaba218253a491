//! `understudy train`.

use std::path::Path;

use clap::Args;
use understudy::checkpoint::layout::{CHECKPOINTS, CONFIG};
use understudy::config::{Overrides, RunConfig};
use understudy::train::{Allow, Resume, ResumeOptions, train};
use understudy_pipelines::store::{Folder, StoreOptions};

use crate::options::DeviceOption;
use crate::output::Outcome;

#[derive(Args)]
pub(crate) struct TrainArgs {
    /// A recipe, or the config.toml of a run to resume: a path or URL
    config: String,
    #[command(flatten)]
    overrides: Overrides,
    /// The run directory: a path, or a URL of s3, gs or az [default: runs/NAME-OF-THE-RECIPE]
    #[arg(long, value_name = "URL")]
    run: Option<String>,
    /// auto: resume from the newest checkpoint, or start if there is none; never: start, an error if
    /// there are checkpoints; URL: resume from another run or checkpoint
    #[arg(long, default_value = "auto", value_name = "auto|never|URL")]
    resume: String,
    /// Resume although these settings differ from the checkpoint's; keeps the teacher and the
    /// optimizer's moments
    #[arg(long, value_name = "optim", value_enum)]
    allow: Vec<Allow>,
    /// Leave out the samples of all steps after the checkpoint, up to and including this one
    #[arg(long, value_name = "STEP")]
    skip_to: Option<u64>,
    #[command(flatten)]
    device: DeviceOption,
}

pub(crate) fn run(args: &TrainArgs) -> Outcome {
    let config = load_config(&args.config, &args.overrides)?;
    let options = config.data.store_options();
    let options = options.map_err(|reason| understudy_pipelines::Error::Config(vec![reason]))?;
    let run = match &args.run {
        Some(run) => run.clone(),
        None => default_run(&args.config),
    };
    let run = Folder::open(&run, &options)?;
    let resume = ResumeOptions {
        from: Resume::parse(&args.resume, &options)?,
        allow: args.allow.clone(),
        skip_to: args.skip_to,
    };
    let device = args.device.open()?;
    let ending = train(config, &run, &resume, &device)?;
    Ok(ending.exit_code().into())
}

/// Reads a local config, or one in object storage.
fn load_config(
    place: &str,
    overrides: &Overrides,
) -> Result<RunConfig, understudy_pipelines::Error> {
    match place.rsplit_once('/') {
        Some((folder, name)) if place.contains("://") => {
            let folder = Folder::open(folder, &StoreOptions::default())?;
            RunConfig::load_in(&folder, name, overrides)
        }
        _ => Ok(RunConfig::load(Path::new(place), overrides)?),
    }
}

/// Returns `runs/NAME` for the recipe `configs/NAME.toml`, and the run directory of a run's
/// `config.toml`.
fn default_run(config: &str) -> String {
    if let Some((folder, CONFIG)) = config.rsplit_once('/')
        && (folder.contains("://") || Path::new(folder).join(CHECKPOINTS).exists())
    {
        return folder.to_owned();
    }
    let mut stem = Path::new(config).file_stem().unwrap_or_default();
    if let Some(folder) = Path::new(config).parent().and_then(Path::file_name)
        && stem == "config"
    {
        // For example an imported model's config: the run gets the name of its folder.
        stem = folder;
    }
    match stem.to_string_lossy().as_ref() {
        "config" if Path::new(CHECKPOINTS).exists() => ".".to_owned(),
        "" => "runs/run".to_owned(),
        name => format!("runs/{name}"),
    }
}
