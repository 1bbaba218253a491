//! `shards plan CONFIG`: memory, reads and shuffle quality of a run, before it starts.

use std::path::PathBuf;

use understudy_pipelines::DataConfig;
use understudy_pipelines::config::Overrides;
use understudy_pipelines::pipeline::{self, Planned};
use understudy_pipelines::plan::Report;

/// Arguments of `shards plan`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Config file; only its table `[data]` is used.
    config: PathBuf,
    #[command(flatten)]
    overrides: Overrides,
}

/// Prints the plan's memory, reads and shuffle quality.
#[expect(clippy::print_stdout, reason = "the command's answer")]
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let config = DataConfig::read(&args.config, &args.overrides)?;
    let Planned {
        mixture,
        plan,
        fingerprint,
        memory,
    } = pipeline::plan(&config)?;
    print!("{}", Report::new(&mixture, &plan, memory)?);
    println!("\nfingerprint {fingerprint:016x}");
    Ok(())
}
