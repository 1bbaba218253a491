//! The program `understudy`: trains, evaluates and exchanges encoders.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

use output::{Outcome, print};

mod demo;
mod embed;
mod evaluate;
mod export;
mod import;
mod options;
mod output;
mod train;

/// Trains self-supervised encoders by data2vec, from streamed shards.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train an encoder from a recipe
    Train(train::TrainArgs),
    /// Compare an encoder with an untrained one and with raw input: k-NN and linear probe
    Evaluate(evaluate::EvaluateArgs),
    /// Convert a Hugging Face or fairseq checkpoint to an Understudy model
    Import(import::ImportArgs),
    /// Convert a model to a Hugging Face folder (data2vec 1.0), or to safetensors with a table of
    /// names (2.0)
    Export(export::ExportArgs),
    /// Write an encoder's features of every sample of a dataset as Parquet shards
    Embed(embed::EmbedArgs),
    /// Test the devices, and show libtorch and its location
    Doctor,
    /// Train and evaluate a small encoder on synthetic images, in a few minutes
    Demo(demo::DemoArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // Store clients log each failed request as a warning; an error is a request that they do not retry.
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
    let outcome = match cli.command {
        Command::Train(args) => train::run(&args),
        Command::Evaluate(args) => evaluate::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Embed(args) => embed::run(args),
        Command::Doctor => doctor(),
        Command::Demo(args) => demo::run(&args),
    };
    outcome.unwrap_or_else(|error| error.report())
}

fn doctor() -> Outcome {
    let report = understudy::doctor::report();
    print(&report.to_string())?;
    Ok(if report.is_healthy() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
