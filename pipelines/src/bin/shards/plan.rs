//! `shards plan CONFIG`: what a recipe's order costs and how well it shuffles.

use std::path::PathBuf;

use understudy_pipelines::DataConfig;
use understudy_pipelines::pipeline::{self, Planned};
use understudy_pipelines::plan::Report;

/// Arguments of `shards plan`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A recipe; its table `[data]` is read, the rest is ignored.
    config: PathBuf,
    /// Changes a value of it, such as `data.train=URL`; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// Prints the plan's costs and shuffle quality.
#[expect(clippy::print_stdout, reason = "the command's answer")]
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let config = DataConfig::read(&args.config, &args.set)?;
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
