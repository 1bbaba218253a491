//! `understudy embed`.

use std::process::ExitCode;

use clap::Args;
use indicatif::HumanBytes;
use understudy::config::Overrides;
use understudy::embed::{Embed, embed};
use understudy::exit_code::INTERRUPTED;
use understudy_pipelines::config::parse_bytes;
use understudy_pipelines::quarantine::QUARANTINE_NAME;
use understudy_pipelines::store::{Folder, StoreOptions};
use understudy_pipelines::write::End;

use crate::options::{DeviceOption, WeightsOption};
use crate::output::{Outcome, print};

#[derive(Args)]
#[command(after_help = "\
Each row has `row` (its number in SHARDS), `path` and `label` where SHARDS has them, and `features`: \
one vector per sample, with --frames a list of vectors. Bad samples are skipped and listed in \
TO/quarantine.jsonl. Run the same command again to resume one that was stopped or killed.")]
pub(crate) struct EmbedArgs {
    /// A run, one of its checkpoints, or an imported model: a path or URL
    model: String,
    /// The dataset: a folder of shards, one shard, or a pattern
    shards: String,
    /// Folder of the features: a path, or a URL of s3, gs or az
    #[arg(long, value_name = "URL")]
    to: String,
    #[command(flatten)]
    weights: WeightsOption,
    /// Write the output of block N, before any final norm; 0 is the input of the first block [default:
    /// output of the last block, after the final norm where there is one]
    #[arg(long, value_name = "N")]
    layer: Option<usize>,
    /// Write a vector per patch, audio feature or token instead of their mean
    #[arg(long)]
    frames: bool,
    #[command(flatten)]
    overrides: Overrides,
    /// Size at which a shard is closed
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = parse_bytes)]
    shard_bytes: u64,
    #[command(flatten)]
    device: DeviceOption,
}

pub(crate) fn run(args: EmbedArgs) -> Outcome {
    let device = args.device.open()?;
    let options = Embed {
        model: Folder::open(&args.model, &StoreOptions::default())?,
        shards: args.shards,
        to: args.to,
        weights: args.weights.weights,
        layer: args.layer,
        frames: args.frames,
        overrides: args.overrides,
        shard_bytes: args.shard_bytes,
    };
    let report = embed(&options, &device)?;
    let (state, code) = match report.end {
        End::Written => ("written", ExitCode::SUCCESS),
        End::AlreadyThere => ("was complete already", ExitCode::SUCCESS),
        End::Interrupted => (
            "interrupted; run the same command to resume",
            INTERRUPTED.into(),
        ),
    };
    let (set, size) = (report.dataset, HumanBytes(report.bytes));
    let bad = match report.quarantined {
        0 => String::new(),
        n => format!("\n  {n} bad samples skipped: see {set}/{QUARANTINE_NAME}"),
    };
    print(&format!(
        "{set}: {} rows, {size} in {} shards, {state}{bad}",
        report.rows, report.shards
    ))?;
    Ok(code)
}
