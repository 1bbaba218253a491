//! `shards inspect`: shows schema, counts and samples of a dataset.

use std::collections::BTreeMap;

use understudy_pipelines::inspect::inspect;

use crate::columns;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A dataset: a folder of shards, or one Parquet or Arrow file.
    url: String,
    /// Names of columns in other schemas, for example `image=img,label=fine_label`.
    #[arg(long, value_name = "OURS=THEIRS", value_delimiter = ',', value_parser = columns::parse)]
    columns: Vec<(String, String)>,
    /// Number of samples to show.
    #[arg(long, value_name = "N", default_value_t = 5)]
    samples: usize,
}

#[expect(clippy::print_stdout, reason = "the command's answer")]
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let columns: BTreeMap<_, _> = args.columns.iter().cloned().collect();
    print!("{}", inspect(&args.url, &columns, args.samples)?);
    Ok(())
}
