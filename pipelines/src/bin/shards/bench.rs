//! `shards bench`: measures the throughput of a training stream.

use std::path::PathBuf;
use std::time::Duration;

use understudy_pipelines::config::Overrides;
use understudy_pipelines::pipeline::Options;
use understudy_pipelines::{DataConfig, bench};

/// Read training batches as fast as possible; report the throughput of each stage and what limits it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Config file; only its table `[data]` is used.
    config: PathBuf,
    #[command(flatten)]
    overrides: Overrides,
    /// Duration of the measurement, in seconds.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Decoding threads [default: one per core].
    #[arg(long)]
    threads: Option<usize>,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

#[expect(clippy::print_stdout, reason = "the binary's own voice")]
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let config = DataConfig::read(&args.config, &args.overrides)?;
    let mut options = Options::default();
    options.threads = args.threads.unwrap_or(options.threads);
    let report = bench::run(&config, &options, Duration::from_secs(args.seconds))?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{report}");
    }
    Ok(())
}
