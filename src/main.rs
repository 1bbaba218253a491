//! The binary `understudy`: train, evaluate, look at the machine, see a demo.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use understudy::config::{ConfigError, RunConfig};
use understudy::device::DeviceError;
use understudy::evaluate::{EvaluateError, RunEvaluateError};
use understudy::pretrained::{PretrainedError, Whose};
use understudy::train::{Ending, Resume, TrainError};

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
    /// Show devices, libtorch and where it was found.
    Doctor,
    /// From nothing to a trained encoder in a few minutes, on pictures drawn for the purpose.
    Demo(Demo),
}

#[derive(Args)]
struct Train {
    /// The recipe, or the config.toml of a run to go on with.
    config: PathBuf,
    /// Change a value of the recipe, for example optim.lr=1e-4; may be given more than once.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The run's folder [default: runs/NAME-OF-THE-RECIPE]
    #[arg(long)]
    run: Option<PathBuf>,
    /// Go on from the newest checkpoint (auto), start (never), or go on from another run or checkpoint.
    #[arg(long, default_value = "auto", value_name = "auto|never|DIR")]
    resume: String,
    /// auto, cpu, cuda, cuda:N or flex.
    #[arg(long, default_value = "auto")]
    device: String,
}

#[derive(Args)]
struct Evaluate {
    /// A run, one of its checkpoints, or an imported model.
    run: PathBuf,
    /// Whose weights [default: the teacher's, if there is one]
    #[arg(long)]
    weights: Option<Whose>,
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
    /// A run, one of its checkpoints, or an imported model.
    model: PathBuf,
    /// Where it goes: a new folder.
    #[arg(long)]
    to: PathBuf,
    /// Whose weights [default: the teacher's, if there is one]
    #[arg(long)]
    weights: Option<Whose>,
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
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .without_time()
        .with_target(false)
        .init();
    let result = match cli.command {
        Command::Train(args) => train(&args),
        Command::Evaluate(args) => evaluate(&args),
        Command::Import(args) => import(&args),
        Command::Export(args) => export(&args),
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
    let config = RunConfig::load(&args.config, &args.set)?;
    let folder = args
        .run
        .clone()
        .unwrap_or_else(|| default_run(&args.config));
    let device = understudy::device::open(&args.device)?;
    let ending = understudy::train::train(
        config,
        &folder,
        &Resume::from(args.resume.as_str()),
        &device,
    )?;
    Ok(ending_code(ending))
}

fn ending_code(ending: Ending) -> ExitCode {
    match ending {
        Ending::Finished => ExitCode::SUCCESS,
        Ending::Interrupted => ExitCode::from(130),
    }
}

/// `runs/NAME` for the recipe `configs/NAME.toml`; the run's own folder for a run's `config.toml`.
fn default_run(config: &std::path::Path) -> PathBuf {
    match (
        config.file_stem().and_then(|stem| stem.to_str()),
        config.parent(),
    ) {
        (Some("config"), Some(folder)) if folder.join("checkpoints").exists() => folder.to_owned(),
        (Some(name), _) => PathBuf::from("runs").join(name),
        (None, _) => PathBuf::from("runs/run"),
    }
}

fn evaluate(args: &Evaluate) -> anyhow::Result<ExitCode> {
    let device = understudy::device::open(&args.device)?;
    let table = understudy::evaluate::run(&args.run, args.weights, &args.set, &device)?;
    print(&table.to_string())
}

fn import(args: &Import) -> anyhow::Result<ExitCode> {
    let imported = understudy::import::import(&args.source, &args.to)
        .with_context(|| format!("importing {}", args.source.display()))?;
    print(&imported.to_string())
}

fn export(args: &Export) -> anyhow::Result<ExitCode> {
    let exported = understudy::export::export(&args.model, args.weights, &args.to)?;
    print(&format!("{}: {}", exported.path.display(), exported.hint))
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
    eprintln!("error: {error:#}");
}

/// 2 for bad usage or config, 3 for a run that diverged or collapsed, else 1.
fn exit_code(error: &anyhow::Error) -> ExitCode {
    let usage = error.is::<ConfigError>()
        || error.is::<DeviceError>()
        || matches!(
            error.downcast_ref(),
            Some(
                RunEvaluateError::Pretrained(PretrainedError::Config(_))
                    | RunEvaluateError::Evaluate(EvaluateError::NoVal)
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
