//! `shards`: writes, inspects and verifies datasets, and measures how fast they are read.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context;
use clap::{Parser, Subcommand};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;
use understudy_pipelines::Error;
use understudy_pipelines::error::full_message;

mod bench;
mod columns;
mod inspect;
mod plan;
mod verify;
mod write;

#[derive(Parser)]
#[command(
    name = "shards",
    version,
    about = "Writes, inspects and verifies datasets of shards"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Convert a corpus to shards; run the same command again to resume.
    Write(write::Args),
    /// Show schema, counts, sizes, classes and a few samples of a dataset.
    Inspect(inspect::Args),
    /// Check hashes of files and rows, labels, and that every sample decodes.
    Verify(verify::Args),
    /// Show what a config's order costs and how well it shuffles, before a run.
    Plan(plan::Args),
    /// Read training batches at full speed; report the throughput and what limits it.
    Bench(bench::Args),
}

/// The user asked the command to stop.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Interrupted(String);

/// Sets `stop` at the first SIGINT or SIGTERM; the second ends the process at once.
fn stop_on_signal(stop: &Arc<AtomicBool>) -> anyhow::Result<()> {
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(stop)))
            .context("cannot catch signals")?;
    }
    Ok(())
}

fn main() -> ExitCode {
    // Warnings of `object_store` about single requests are too many; a failed operation is an error.
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
    let cli = Cli::parse();
    let done = match &cli.command {
        Command::Write(args) => write::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Plan(args) => plan::run(args),
        Command::Bench(args) => bench::run(args),
    };
    let Err(error) = done else {
        return ExitCode::SUCCESS;
    };
    if let Some(interrupted) = error.downcast_ref::<Interrupted>() {
        print_error(&format!("interrupted: {interrupted}"));
        return ExitCode::from(130);
    }
    print_error(&format!("error: {}", full_message(error.as_ref())));
    let code = error.downcast_ref::<Error>().map_or(1, Error::exit_code);
    ExitCode::from(code)
}

#[expect(
    clippy::print_stderr,
    reason = "the one place where errors reach the user"
)]
fn print_error(message: &str) {
    eprintln!("{message}");
}
