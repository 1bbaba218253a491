//! `shards plan CONFIG`: what a recipe's order costs and how well it shuffles.

use std::path::PathBuf;

use understudy_pipelines::plan::Report;
use understudy_pipelines::{DataConfig, pipeline};

/// Arguments of `shards plan`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A recipe; its table `[data]` is read, the rest is ignored.
    config: PathBuf,
}

/// Prints the plan's costs and shuffle quality.
#[expect(clippy::print_stdout, reason = "the command's answer")]
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let config = DataConfig::read(&args.config)?;
    let (set, plan) = pipeline::plan(&config)?;
    println!("{}", Report::new(&set, &plan)?);
    println!("fingerprint {:016x}", set.fingerprint());
    Ok(())
}
