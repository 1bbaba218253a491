//! `shards plan CONFIG`: what a recipe's order costs and how well it shuffles.

use std::path::PathBuf;

use understudy_pipelines::DataConfig;
use understudy_pipelines::config::Overrides;
use understudy_pipelines::pipeline::{self, Planned};
use understudy_pipelines::plan::Report;

/// Arguments of `shards plan`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A config; its table `[data]` is read, and the trainer's tables are ignored.
    config: PathBuf,
    #[command(flatten)]
    overrides: Overrides,
}

/// Prints the plan's costs and shuffle quality.
#[expect(clippy::print_stdout, reason = "the command's answer")]
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let config = DataConfig::read(&args.config, &args.overrides)?;
    let Planned {
        mixture,
        plan,
        fingerprint,
        memory,
    } = pipeline::plan(&config)?;
    println!("{}", Report::new(&mixture, &plan, memory)?);
    println!("fingerprint {fingerprint:016x}");
    Ok(())
}
