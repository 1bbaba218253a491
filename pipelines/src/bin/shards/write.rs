//! `shards write`: a corpus becomes shards.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use understudy_pipelines::Error;
use understudy_pipelines::budget::parse_bytes;
use understudy_pipelines::write::resume::QUARANTINE_NAME;
use understudy_pipelines::write::{
    Check, Encode, End, Progress, Recipe, Report, WriteOptions, write,
};

use crate::{Interrupted, columns, stop_on_signal};

/// Where there is no terminal, a line of progress is printed this often.
const LINE_EVERY: Duration = Duration::from_secs(10);

#[derive(clap::Args)]
#[command(after_help = "\
Sources:
  root/<class>/**/*.jpg                  class folders; a folder of pictures alone has no labels
  root/train/… and root/val/…            two sets, TO/train and TO/val, with one list of classes
  *.tar, *.tar.gz                        WebDataset: 0001.jpg with 0001.cls, .json or .txt
  *.parquet, *.arrow                     Hugging Face layout, or plain binary columns
  a folder of tars or columnar files     files named train-… and validation-… become two sets

Bad files (no picture, truncated, empty, over a limit, label out of range) are listed with reasons \
in TO/quarantine.jsonl, and the run goes on. A class that --labels does not have stops it at once.

A run that was killed or ran out of space goes on with the same command; nothing is written twice.")]
pub(crate) struct Args {
    /// Class folders, WebDataset tars, Parquet or Arrow files, or folders of these.
    #[arg(required = true, value_name = "SOURCE")]
    sources: Vec<PathBuf>,
    /// Folder of the set.
    #[arg(long, value_name = "URL")]
    to: String,
    /// What the samples are.
    #[arg(long, value_enum, default_value = "image")]
    schema: SchemaName,
    /// Use the class list of another set (a folder of shards or a Parquet file).
    #[arg(long, value_name = "FROM")]
    labels: Option<PathBuf>,
    /// Names in the source, `image=img,label=fine_label`; of a tar the extensions; `label=` for none.
    #[arg(long, value_name = "OURS=THEIRS", value_delimiter = ',', value_parser = columns::parse)]
    columns: Vec<(String, String)>,
    /// Make larger pictures so many pixels at the short side, stored as JPEG.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    resize_short: Option<u32>,
    /// Quality of pictures that are encoded anew.
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u8).range(1..=100))]
    quality: u8,
    /// keep: pictures that are not resized stay byte for byte; jpeg: all are encoded anew.
    #[arg(long, value_enum, default_value = "keep")]
    encode: EncodeName,
    /// decode: every picture is decoded once; header, much faster: only what
    /// it says of itself is read, so that truncated files pass.
    #[arg(long, value_enum, default_value = "decode")]
    check: CheckName,
    /// Size at which a shard is closed.
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = parse_bytes)]
    shard_bytes: u64,
    /// Size at which a row group is closed; what training reads at once.
    #[arg(long, value_name = "SIZE", default_value = "8MiB", value_parser = parse_bytes)]
    row_group_bytes: u64,
    /// Threads that check and encode; all cores if not given.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

#[derive(Clone, Copy, ValueEnum)]
enum SchemaName {
    Image,
}

#[derive(Clone, Copy, ValueEnum)]
enum EncodeName {
    Keep,
    Jpeg,
}

#[derive(Clone, Copy, ValueEnum)]
enum CheckName {
    Decode,
    Header,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let options = args.options()?;
    let stop = Arc::new(AtomicBool::new(false));
    stop_on_signal(&stop)?;
    let mut display = Display::new();
    let outcome = write(&options, &mut |progress| display.show(progress), &stop);
    display.bar.finish_and_clear();
    let reports = outcome.map_err(|error| {
        let hint = match &error {
            Error::Io { source, .. } if is_full(source) => {
                "the finished shards are safe; make room and give the same command again"
            }
            _ => return anyhow::Error::from(error),
        };
        anyhow::Error::from(error).context(hint)
    })?;
    for report in &reports {
        print(report);
    }
    let interrupted = reports.iter().any(|report| report.end == End::Interrupted);
    if interrupted {
        let message = "the finished shards are kept; the same command goes on";
        return Err(Interrupted(message.to_owned()).into());
    }
    print_next(&reports, &args.to);
    Ok(())
}

impl Args {
    fn options(&self) -> Result<WriteOptions, Error> {
        let SchemaName::Image = self.schema;
        let mut faults = Vec::new();
        for (ours, _) in &self.columns {
            if !["image", "label"].contains(&ours.as_str()) {
                faults.push(format!(
                    "--columns {ours}=…: our columns are image and label"
                ));
            }
        }
        if !(1 << 16..=16 << 20).contains(&self.row_group_bytes) {
            faults.push("--row-group-bytes: must lie between 64KiB and 16MiB".to_owned());
        }
        if self.shard_bytes < self.row_group_bytes {
            faults.push("--shard-bytes: is smaller than --row-group-bytes".to_owned());
        }
        let to = match self.to.split_once("://") {
            None => PathBuf::from(&self.to),
            Some(("file", path)) => PathBuf::from(path),
            Some((scheme, _)) => {
                faults.push(format!(
                    "--to: writes to folders and file://, not yet to {scheme}://"
                ));
                PathBuf::new()
            }
        };
        if !faults.is_empty() {
            return Err(Error::Config(faults));
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(WriteOptions {
            sources: self.sources.clone(),
            to,
            columns: self.columns.iter().cloned().collect(),
            labels: self.labels.clone(),
            recipe: Recipe {
                resize_short: self.resize_short,
                quality: self.quality,
                encode: match self.encode {
                    EncodeName::Keep => Encode::Keep,
                    EncodeName::Jpeg => Encode::Jpeg,
                },
                check: match self.check {
                    CheckName::Decode => Check::Decode,
                    CheckName::Header => Check::Header,
                },
            },
            shard_bytes: self.shard_bytes,
            row_group_bytes: self.row_group_bytes,
            threads: self.threads.unwrap_or(cores).max(1),
        })
    }
}

/// A bar on a terminal, a line now and then elsewhere.
struct Display {
    bar: ProgressBar,
    last_line: Instant,
}

impl Display {
    fn new() -> Self {
        let style = "{spinner} {prefix} {bar:30} {pos}/{len} samples, {per_sec}, {eta} left {msg}";
        let style =
            ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::no_length()
            .with_style(style)
            .with_prefix("reading names");
        Self {
            bar,
            last_line: Instant::now(),
        }
    }

    fn show(&mut self, progress: Progress) {
        let bad = match progress.quarantined {
            0 => String::new(),
            n => format!(", {n} bad"),
        };
        if !self.bar.is_hidden() {
            if self.bar.length() != Some(progress.total) {
                self.bar.reset();
                // A resumed run's rate and time left count from where it began.
                self.bar.set_length(progress.total);
                self.bar.set_position(progress.done);
                self.bar.reset_eta();
            }
            self.bar.set_prefix(progress.set.display().to_string());
            self.bar.set_message(bad);
            self.bar.set_position(progress.done);
        } else if self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            let Progress {
                set,
                done,
                total,
                bytes,
                ..
            } = progress;
            say(&format!(
                "{}: {done}/{total} samples, {} in shards{bad}",
                set.display(),
                HumanBytes(bytes)
            ));
        }
    }
}

fn print(report: &Report) {
    let set = report.set.display();
    let size = HumanBytes(report.bytes);
    let classes = report
        .classes
        .as_ref()
        .map_or(String::new(), |c| format!(", {} classes", c.len()));
    let state = match report.end {
        End::Written => format!("written in {:.1} s", report.took.as_secs_f64()),
        End::AlreadyThere => "was complete already".to_owned(),
        End::Interrupted => "not finished".to_owned(),
    };
    say(&format!(
        "{set}: {} samples{classes}, {size} in {} shards, {state}",
        report.rows, report.shards
    ));
    if report.resumed_from > 0 {
        say(&format!(
            "  went on after the {} samples of an earlier run",
            report.resumed_from
        ));
    }
    if report.quarantined > 0 {
        say(&format!(
            "  {} bad files left out: see {set}/{QUARANTINE_NAME}",
            report.quarantined
        ));
    }
    if report.ignored > 0 {
        say(&format!(
            "  {} files ignored: hidden, or beside the class folders",
            report.ignored
        ));
    }
}

fn print_next(reports: &[Report], to: &str) {
    let named = |name: &str| {
        reports
            .iter()
            .find(|r| r.set.ends_with(name))
            .map(|r| r.set.display())
    };
    say("next:");
    for report in reports {
        say(&format!("  shards verify {}", report.set.display()));
    }
    let train = named("train").map_or_else(|| to.to_owned(), |set| set.to_string());
    let val = named("val").map_or(String::new(), |set| format!(" --set data.val={set}"));
    say(&format!(
        "  understudy train CONFIG --set data.train={train}{val}"
    ));
}

fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

#[expect(clippy::print_stdout, reason = "the report is the command's output")]
fn say(line: &str) {
    println!("{line}");
}
