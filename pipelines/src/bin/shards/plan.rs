//! `shards plan CONFIG`: what a recipe's order costs and how well it shuffles.

use std::path::{Path, PathBuf};

use anyhow::Context;
use understudy_pipelines::plan::{Layout, Plan, PlanConfig, Report};
use understudy_pipelines::shard::ShardSet;
use understudy_pipelines::{DataConfig, Error};

/// Arguments of `shards plan`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A recipe; its table `[data]` is read, the rest is ignored.
    config: PathBuf,
}

/// Prints the plan's costs and shuffle quality.
#[expect(clippy::print_stdout, reason = "the command's answer")]
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let config = read_data_table(&args.config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let set = runtime.block_on(ShardSet::open(&config.train, &config.columns))?;
    let plan = Plan::new(Layout::of(&set), PlanConfig::of(&config))?;
    println!("{}", Report::new(&set, &plan)?);
    println!("fingerprint {:016x}", set.fingerprint());
    Ok(())
}

/// The table `[data]` of a recipe, checked.
pub(crate) fn read_data_table(path: &Path) -> anyhow::Result<DataConfig> {
    #[derive(serde::Deserialize)]
    struct Recipe {
        data: DataConfig,
    }
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let Recipe { data } = toml::from_str(&text)
        .map_err(|error| Error::Config(vec![format!("{}: {error}", path.display())]))?;
    match data.problems() {
        problems if problems.is_empty() => Ok(data),
        problems => Err(Error::Config(problems).into()),
    }
}
