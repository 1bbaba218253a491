//! `shards verify`: reports damaged files and bad rows of a dataset.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use indicatif::{ProgressBar, ProgressStyle};
use understudy_pipelines::verify::{Problem, verify};

use crate::{Interrupted, columns, stop_on_signal};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A dataset: a folder of shards, or one Parquet or Arrow file.
    url: String,
    /// Names of columns in other schemas, for example `image=img,label=fine_label`.
    #[arg(long, value_name = "OURS=THEIRS", value_delimiter = ',', value_parser = columns::parse)]
    columns: Vec<(String, String)>,
}

#[expect(clippy::print_stdout, reason = "the command's answer")]
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let columns: BTreeMap<_, _> = args.columns.iter().cloned().collect();
    let stop = Arc::new(AtomicBool::new(false));
    stop_on_signal(&stop)?;
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} rows, {per_sec}, {eta} left")?;
    let bar = ProgressBar::no_length().with_style(style);
    let mut found = |Problem { shard, row, reason }| {
        let place = row.map_or(shard.clone(), |row| format!("{shard} row {row}"));
        bar.suspend(|| println!("{place}: {reason}"));
    };
    let mut progress = |rows, all| {
        bar.set_length(all);
        bar.set_position(rows);
    };
    let done = verify(&args.url, &columns, &mut found, &mut progress, &stop)?;
    bar.finish_and_clear();
    if done.interrupted {
        let message = format!(
            "{} rows were checked, {} problems",
            done.rows, done.problems
        );
        return Err(Interrupted(message).into());
    }
    let hashed = match done.hashed_shards {
        0 => "no manifest to check files against".to_owned(),
        n => format!("{n} files hashed"),
    };
    let unhashed = match done.unhashed_rows {
        0 => String::new(),
        n => format!(", {n} rows have no hash"),
    };
    let unlabelled = match done.unlabelled_rows {
        0 => String::new(),
        n => format!(", {n} rows have no label"),
    };
    let unlisted = match done.unlisted_labels {
        0 => String::new(),
        n => format!(", {n} rows without a number for their label"),
    };
    let rows = done.rows;
    println!(
        "{}: {rows} rows read and decoded, {hashed}{unhashed}{unlabelled}{unlisted}",
        args.url
    );
    match done.problems {
        0 => Ok(()),
        n => anyhow::bail!(
            "{n} problems: {}\nhint: write the dataset again from its source, or remove the bad rows",
            args.url
        ),
    }
}
