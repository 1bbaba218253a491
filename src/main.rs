//! The binary `understudy`: train, evaluate, embed, look at the machine, see a demo.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use indicatif::HumanBytes;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;
use understudy::config::{ConfigError, RunConfig};
use understudy::device::DeviceError;
use understudy::embed::{Embed, EmbedError};
use understudy::evaluate::{EvaluateError, Of, RunEvaluateError};
use understudy::pretrained::{PretrainedError, Whose};
use understudy::train::{Ending, Resume, TrainError};
use understudy_pipelines::budget::parse_bytes;
use understudy_pipelines::store::{Folder, StoreOptions};
use understudy_pipelines::write::End;
use understudy_pipelines::write::QUARANTINE_NAME;

/// Trains self-supervised encoders by data2vec, from streamed shards.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train an encoder from a recipe.
    Train(Train),
    /// Compare an encoder with an untrained one and with raw pixels: k-NN and linear probe.
    Evaluate(Evaluate),
    /// Turn a checkpoint of Hugging Face or fairseq into a model of ours.
    Import(Import),
    /// Turn a model into a Hugging Face folder (1.0), or into safetensors with a table of names (2.0).
    Export(Export),
    /// Write an encoder's features of every sample of a set, as Parquet shards.
    Embed(EmbedArgs),
    /// Show devices, libtorch and where it was found.
    Doctor,
    /// From nothing to a trained encoder in a few minutes, on pictures drawn for the purpose.
    Demo(Demo),
}

#[derive(Args)]
struct Train {
    /// The recipe, or the config.toml of a run to go on with: a path or URL.
    config: String,
    /// Change a value of the recipe, for example optim.lr=1e-4; may be given more than once.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The run's folder: a path, or a URL of s3, gs or az [default: runs/NAME-OF-THE-RECIPE]
    #[arg(long, value_name = "URL")]
    run: Option<String>,
    /// Go on from the newest checkpoint (auto), start (never), or go on from another run or checkpoint.
    #[arg(long, default_value = "auto", value_name = "auto|never|URL")]
    resume: String,
    /// auto, cpu, cuda, cuda:N or flex.
    #[arg(long, default_value = "auto")]
    device: String,
}

#[derive(Args)]
struct Evaluate {
    /// A run, one of its checkpoints, or an imported model: a path or URL.
    run: String,
    /// Whose weights [default: the teacher's, if there is one]
    #[arg(long)]
    weights: Option<Whose>,
    /// Classify single frames of recordings, each with its recording's label, instead of recordings.
    #[arg(long)]
    frames: bool,
    /// Change a value of the run's config, for example data.val=other/val.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// auto, cpu, cuda, cuda:N or flex.
    #[arg(long, default_value = "auto")]
    device: String,
}

#[derive(Args)]
struct Import {
    /// A Hugging Face folder, or a .pt or .pth file; nothing that is pickled in it is executed.
    source: PathBuf,
    /// Where the model goes: a new folder.
    #[arg(long)]
    to: PathBuf,
}

#[derive(Args)]
struct Export {
    /// A run, one of its checkpoints, or an imported model: a path or URL.
    model: String,
    /// Where it goes: a new folder.
    #[arg(long)]
    to: PathBuf,
    /// Whose weights [default: the teacher's, if there is one]
    #[arg(long)]
    weights: Option<Whose>,
}

#[derive(Args)]
#[command(after_help = "\
Each row has `row` (its number in SHARDS), `path` and `label` where SHARDS has them, and `features`: \
one vector per sample, with --frames a list of vectors. Bad samples are left out and listed in \
TO/quarantine.jsonl. A run that was stopped or killed goes on with the same command.")]
struct EmbedArgs {
    /// A run, one of its checkpoints, or an imported model: a path or URL.
    model: String,
    /// The set: a folder of shards, one shard, or a pattern.
    shards: String,
    /// Folder of the features: a path, or a URL of s3, gs or az
    #[arg(long, value_name = "URL")]
    to: String,
    /// Whose weights [default: the teacher's, if there is one]
    #[arg(long)]
    weights: Option<Whose>,
    /// The output of block N, before any final norm; 0 is what goes into the blocks [default: the
    /// last block's, after the final norm where there is one]
    #[arg(long, value_name = "N")]
    layer: Option<usize>,
    /// A vector per patch, frame or token, in place of their mean.
    #[arg(long)]
    frames: bool,
    /// Change a value of the model's config, for example data.columns.image=img.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Size at which a shard is closed.
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = parse_bytes)]
    shard_bytes: u64,
    /// auto, cpu, cuda, cuda:N or flex.
    #[arg(long, default_value = "auto")]
    device: String,
}

#[derive(Args)]
struct Demo {
    /// Where pictures, shards and the run go.
    #[arg(long, default_value = "runs/demo")]
    dir: PathBuf,
    /// auto, cpu, cuda, cuda:N or flex.
    #[arg(long, default_value = "auto")]
    device: String,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // What clients of stores say of single requests is too much; what they give up is an error.
    let levels = Targets::new()
        .with_default(LevelFilter::INFO)
        .with_target("object_store", LevelFilter::ERROR);
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .without_time()
        .with_target(false)
        .finish()
        .with(levels)
        .init();
    let result = match cli.command {
        Command::Train(args) => train(&args),
        Command::Evaluate(args) => evaluate(&args),
        Command::Import(args) => import(&args),
        Command::Export(args) => export(&args),
        Command::Embed(args) => embed(args),
        Command::Doctor => doctor(),
        Command::Demo(args) => demo(&args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            report(&error);
            exit_code(&error)
        }
    }
}

fn train(args: &Train) -> anyhow::Result<ExitCode> {
    let config = load_config(&args.config, &args.set)?;
    let options = config.data.store_options();
    let options = options.map_err(|reason| understudy_pipelines::Error::Config(vec![reason]))?;
    let run = match &args.run {
        Some(run) => run.clone(),
        None => default_run(&args.config),
    };
    let run = Folder::open(&run, &options)?;
    let resume = Resume::parse(&args.resume, &options)?;
    let device = understudy::device::open(&args.device)?;
    let ending = understudy::train::train(config, &run, &resume, &device)?;
    Ok(ending_code(ending))
}

/// A recipe here, or one in a store.
fn load_config(place: &str, set: &[String]) -> anyhow::Result<RunConfig> {
    match place.rsplit_once('/') {
        Some((folder, name)) if place.contains("://") => {
            let folder = Folder::open(folder, &StoreOptions::default())?;
            Ok(RunConfig::load_in(&folder, name, set)?)
        }
        _ => Ok(RunConfig::load(Path::new(place), set)?),
    }
}

fn ending_code(ending: Ending) -> ExitCode {
    match ending {
        Ending::Finished => ExitCode::SUCCESS,
        Ending::Interrupted => ExitCode::from(130),
    }
}

/// `runs/NAME` for the recipe `configs/NAME.toml`; the run's own folder for a run's `config.toml`.
fn default_run(config: &str) -> String {
    if let Some((folder, "config.toml")) = config.rsplit_once('/')
        && (folder.contains("://") || Path::new(folder).join("checkpoints").exists())
    {
        return folder.to_owned();
    }
    let mut stem = Path::new(config).file_stem().unwrap_or_default();
    if let Some(folder) = Path::new(config).parent().and_then(Path::file_name)
        && stem == "config"
    {
        // A model's, say: the folder has the name.
        stem = folder;
    }
    match stem.to_string_lossy().as_ref() {
        "config" if Path::new("checkpoints").exists() => ".".to_owned(),
        "" => "runs/run".to_owned(),
        name => format!("runs/{name}"),
    }
}

fn evaluate(args: &Evaluate) -> anyhow::Result<ExitCode> {
    let device = understudy::device::open(&args.device)?;
    let run = Folder::open(&args.run, &StoreOptions::default())?;
    let of = if args.frames { Of::Frames } else { Of::Samples };
    let table = understudy::evaluate::run(&run, args.weights, of, &args.set, &device)?;
    print(&table.to_string())
}

fn import(args: &Import) -> anyhow::Result<ExitCode> {
    let imported = understudy::import::import(&args.source, &args.to)
        .with_context(|| format!("importing {}", args.source.display()))?;
    print(&imported.to_string())
}

fn export(args: &Export) -> anyhow::Result<ExitCode> {
    let model = Folder::open(&args.model, &StoreOptions::default())?;
    let exported = understudy::export::export(&model, args.weights, &args.to)?;
    print(&format!("{}: {}", exported.path.display(), exported.hint))
}

fn embed(args: EmbedArgs) -> anyhow::Result<ExitCode> {
    let device = understudy::device::open(&args.device)?;
    let wanted = Embed {
        model: Folder::open(&args.model, &StoreOptions::default())?,
        shards: args.shards,
        to: args.to,
        whose: args.weights,
        layer: args.layer,
        frames: args.frames,
        set: args.set,
        shard_bytes: args.shard_bytes,
    };
    let report = understudy::embed::embed(&wanted, &device)?;
    let (state, code) = match report.end {
        End::Written => ("written", ExitCode::SUCCESS),
        End::AlreadyThere => ("was complete already", ExitCode::SUCCESS),
        End::Interrupted => (
            "not finished; the same command goes on",
            ExitCode::from(130),
        ),
    };
    let (set, size) = (report.set, HumanBytes(report.bytes));
    let bad = match report.quarantined {
        0 => String::new(),
        n => format!("\n  {n} bad samples left out: see {set}/{QUARANTINE_NAME}"),
    };
    print(&format!(
        "{set}: {} rows, {size} in {} shards, {state}{bad}",
        report.rows, report.shards
    ))?;
    Ok(code)
}

fn doctor() -> anyhow::Result<ExitCode> {
    let report = understudy::doctor::report();
    print(&report.to_string())?;
    Ok(if report.is_healthy() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn demo(args: &Demo) -> anyhow::Result<ExitCode> {
    let device = understudy::device::open(&args.device)?;
    let ending = understudy::demo::run(&args.dir, &device)
        .with_context(|| format!("the demo in {}", args.dir.display()))?;
    Ok(ending_code(ending))
}

/// Writes to standard output; a reader that has gone away is no failure.
fn print(text: &str) -> anyhow::Result<ExitCode> {
    use std::io::Write;
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

#[expect(
    clippy::print_stderr,
    reason = "the one place where errors reach the user"
)]
fn report(error: &anyhow::Error) {
    eprintln!(
        "error: {}",
        understudy_pipelines::error::words(error.as_ref())
    );
}

/// 2 for bad usage or config, 3 for a run that diverged or collapsed, else 1.
fn exit_code(error: &anyhow::Error) -> ExitCode {
    let usage = matches!(error.downcast_ref(), Some(config) if !matches!(config, ConfigError::Store(_)))
        || error.is::<DeviceError>()
        || matches!(
            error.downcast_ref(),
            Some(understudy_pipelines::Error::Config(_))
        )
        || matches!(
            error.downcast_ref(),
            Some(
                RunEvaluateError::Pretrained(PretrainedError::Config(_))
                    | RunEvaluateError::Evaluate(
                        EvaluateError::NoVal | EvaluateError::Mix | EvaluateError::NoFrames
                    )
            )
        )
        || matches!(
            error.downcast_ref(),
            Some(
                EmbedError::Layer { .. }
                    | EmbedError::Pretrained(PretrainedError::Config(_))
                    | EmbedError::Data(understudy_pipelines::Error::Config(_))
            )
        );
    if usage {
        return ExitCode::from(2);
    }
    match error.downcast_ref() {
        Some(TrainError::Failure(_)) => ExitCode::from(3),
        Some(TrainError::Data(understudy_pipelines::Error::Config(_))) => ExitCode::from(2),
        _ => ExitCode::FAILURE,
    }
}
