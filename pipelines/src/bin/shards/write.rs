//! `shards write`: a corpus becomes shards.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use understudy_pipelines::Error;
use understudy_pipelines::config::{Modality, parse_bytes};
use understudy_pipelines::quarantine::QUARANTINE_NAME;
use understudy_pipelines::write::{
    AudioOptions, BlockBoundary, Check, Encode, EncodeOptions, End, ImageOptions, Progress,
    TokenOptions, WriteOptions, WriteReport, write,
};

use crate::{Interrupted, columns, stop_on_signal};

/// Where there is no terminal, a line of progress is printed this often.
const LINE_EVERY: Duration = Duration::from_secs(10);

#[derive(clap::Args)]
#[command(after_help = "\
Sources of any schema:
  root/train/… and root/val/…            two sets, TO/train and TO/val, with one list of classes
                                         (or training, valid, validation, dev, test, in any case)
  *.parquet, *.arrow                     Hugging Face layout, or plain columns
  a folder of such files                 files named train-… and validation-… become two sets
Pictures (image) and recordings (audio):
  root/<class>/**/*.jpg                  class folders; a folder of files alone has no labels
  *.tar, *.tar.gz                        WebDataset: 0001.jpg with 0001.cls, .json or .txt;
                                         of recordings .txt is the transcript
Recordings:
  LibriSpeech/train-clean-100            *.flac with *.trans.txt; speakers from the names
  train.tsv, valid.tsv                   fairseq's lists, with .wrd or .ltr beside them
  manifest.tsv|csv|jsonl, metadata.…     in the folder, or a list of any name that is itself the
                                         source: path (or file_name) with transcript (or text),
                                         speaker, label, split; the files that it names
Texts:
  *.txt                                  running text; a blank line ends a document
  *.jsonl                                one object per line, with text, text_b, label, score
  *.tsv                                  GLUE's tables, each task's as published
  (README, LICENSE and the like are left out; compressed texts are refused: decompress them first)

Files of folders and lists come in a random order that a fixed seed keys, so that classes and \
speakers are mixed in every row group. Tars, columnar files, tables and texts keep their order.

With --tokenizer texts become blocks of one size, for pre-training: `<s>` and up to N-1 tokens, \
where each line ends with `</s>`; labels and second texts are left out. A document longer than 1 MiB is handed on in parts, cut between \
lines; without --tokenizer each part is a row.

Bad samples (no picture, truncated, empty, blank, not UTF-8, over a limit, label out of range) are \
listed with reasons in TO/quarantine.jsonl, and the run goes on. A class that --labels does not have \
stops it at once.

A run that was killed or ran out of space goes on with the same command; nothing is written twice.

--to a store: shards are first written to the system's temporary folder, which needs room for one of \
them (TMPDIR names another), and sent when they are complete; any machine can go on with the rest. \
Credentials come from the environment.")]
pub(crate) struct Args {
    /// Folders, tars, lists, tables, texts, Parquet or Arrow files, or folders of these.
    #[arg(required = true, value_name = "SOURCE")]
    sources: Vec<PathBuf>,
    /// Folder of the set: a path, or a URL of s3, gs or az.
    #[arg(long, value_name = "URL")]
    to: String,
    /// What the samples are.
    #[arg(long, value_enum, default_value = "image")]
    schema: Modality,
    /// Use the class list of another set (a folder of shards, here or at a URL, or a Parquet file).
    #[arg(long, value_name = "FROM")]
    labels: Option<String>,
    /// Names in the source, `image=img,label=fine_label`; of a tar the extensions; `label=` for none.
    /// Ours are image, label; audio, transcript, speaker, label; text, `text_b`, label, score.
    #[arg(long, value_name = "OURS=THEIRS", value_delimiter = ',', value_parser = columns::parse)]
    columns: Vec<(String, String)>,
    /// Make larger pictures so many pixels at the short side, stored as JPEG.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    resize_short: Option<u32>,
    /// Quality of pictures that are encoded anew; 90 if not given.
    #[arg(long, value_name = "Q", value_parser = clap::value_parser!(u8).range(1..=100))]
    quality: Option<u8>,
    /// keep, the default: pictures that are not resized stay byte for byte; jpeg: all are encoded
    /// anew.
    #[arg(long, value_enum)]
    encode: Option<EncodeName>,
    /// decode, the default: every picture or recording is decoded once; header, much faster: only
    /// what it says of itself is read, so that truncated files pass.
    #[arg(long, value_enum)]
    check: Option<CheckName>,
    /// Pack texts into blocks of tokens, by the vocabulary in this folder or file: vocab.json with
    /// merges.txt, encoder.json with vocab.bpe, or tokenizer.json.
    #[arg(long, value_name = "DIR")]
    tokenizer: Option<PathBuf>,
    /// Tokens of a block, `<s>` included; 512 if not given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(8..=1 << 16))]
    block_tokens: Option<u32>,
    /// document, the default: a block holds whole lines of one document (fairseq's `complete_doc`);
    /// none: blocks are cut from one stream of all documents. Where blank lines part paragraphs,
    /// document leaves most blocks half empty.
    #[arg(long = "break", value_enum)]
    break_at: Option<BreakName>,
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
enum EncodeName {
    Keep,
    Jpeg,
}

#[derive(Clone, Copy, ValueEnum)]
enum CheckName {
    Decode,
    Header,
}

#[derive(Clone, Copy, ValueEnum)]
enum BreakName {
    Document,
    None,
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
        if let Some(fill) = report.fill {
            args.print_fill(fill);
        }
        if report.bare_folders > 1 {
            print_bare(&args.sources);
        }
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
        let mut faults = self.foreign_options();
        let encode = self.encode_options();
        for (ours, theirs) in &self.columns {
            let columns = encode.columns();
            if !columns.contains(&ours.as_str()) {
                let columns = columns.join(", ");
                faults.push(format!("--columns {ours}=…: our columns are {columns}"));
            } else if ours == columns[0] && theirs.is_empty() {
                faults.push(format!("--columns {ours}=: cannot be left out"));
            }
        }
        if !(1 << 16..=16 << 20).contains(&self.row_group_bytes) {
            faults.push("--row-group-bytes: must lie between 64KiB and 16MiB".to_owned());
        }
        if self.shard_bytes < self.row_group_bytes {
            faults.push("--shard-bytes: is smaller than --row-group-bytes".to_owned());
        }
        if !faults.is_empty() {
            return Err(Error::Config(faults));
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(WriteOptions {
            sources: self.sources.clone(),
            to: self.to.clone(),
            columns: self.columns.iter().cloned().collect(),
            labels: self.labels.clone(),
            encode,
            shard_bytes: self.shard_bytes,
            row_group_bytes: self.row_group_bytes,
            threads: self.threads.unwrap_or(cores).max(1),
        })
    }

    fn encode_options(&self) -> EncodeOptions {
        let check = match self.check {
            None | Some(CheckName::Decode) => Check::Decode,
            Some(CheckName::Header) => Check::Header,
        };
        match (self.schema, &self.tokenizer) {
            (Modality::Image, _) => EncodeOptions::Image(ImageOptions {
                resize_short: self.resize_short,
                quality: self.quality.unwrap_or(90),
                encode: match self.encode {
                    None | Some(EncodeName::Keep) => Encode::Keep,
                    Some(EncodeName::Jpeg) => Encode::Jpeg,
                },
                check,
            }),
            (Modality::Audio, _) => EncodeOptions::Audio(AudioOptions { check }),
            (Modality::Text, None) => EncodeOptions::Text,
            (Modality::Text, Some(tokenizer)) => EncodeOptions::Tokens(TokenOptions {
                tokenizer: tokenizer.clone(),
                block_tokens: self.block_tokens.unwrap_or(512),
                break_at: match self.break_at {
                    None | Some(BreakName::Document) => BlockBoundary::Document,
                    Some(BreakName::None) => BlockBoundary::None,
                },
            }),
        }
    }

    fn print_fill(&self, fill: f64) {
        let stays_in_documents = !matches!(self.break_at, Some(BreakName::None));
        let advice = if fill < 0.5 && stays_in_documents {
            "; --break none fills them, across the ends of documents"
        } else {
            ""
        };
        let percent = 100.0 * fill;
        say(&format!(
            "  blocks are {percent:.0} % full, the rest is padding{advice}"
        ));
    }

    /// Options of another schema than the one that is written.
    fn foreign_options(&self) -> Vec<String> {
        let (image, text) = match self.schema {
            Modality::Image => (true, false),
            Modality::Audio => (false, false),
            Modality::Text => (false, true),
        };
        let encodes = self.resize_short.is_some() || matches!(self.encode, Some(EncodeName::Jpeg));
        let tokens = text && self.tokenizer.is_some();
        let given = [
            (
                self.resize_short.is_some() && !image,
                "--resize-short",
                "pictures",
            ),
            (self.quality.is_some() && !image, "--quality", "pictures"),
            (self.encode.is_some() && !image, "--encode", "pictures"),
            (
                self.quality.is_some() && image && !encodes,
                "--quality",
                "--resize-short and --encode jpeg",
            ),
            (
                self.check.is_some() && text,
                "--check",
                "pictures and recordings",
            ),
            (
                self.tokenizer.is_some() && !text,
                "--tokenizer",
                "--schema text",
            ),
            (
                self.block_tokens.is_some() && !tokens,
                "--block-tokens",
                "--tokenizer",
            ),
            (self.break_at.is_some() && !tokens, "--break", "--tokenizer"),
            (
                self.labels.is_some() && tokens,
                "--labels",
                "sets with labels",
            ),
        ];
        let foreign = given.into_iter().filter(|(given, ..)| *given);
        foreign
            .map(|(_, option, of)| format!("{option}: an option of {of}"))
            .collect()
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
            self.bar.set_prefix(progress.set);
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
                "{set}: {done}/{total} samples, {} in shards{bad}",
                HumanBytes(bytes)
            ));
        }
    }
}

fn print(report: &WriteReport) {
    let set = &report.set;
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
        "{set}: {} rows{classes}, {size} in {} shards, {state}",
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
            "  {} bad samples left out: see {set}/{QUARANTINE_NAME}",
            report.quarantined
        ));
    }
    if report.ignored > 0 {
        say(&format!(
            "  {} files ignored: hidden, of another kind, notes such as README, or beside the \
             folders of samples",
            report.ignored
        ));
    }
}

/// Folders that are named one by one, as `pictures/*` does, are no classes.
fn print_bare(sources: &[PathBuf]) {
    let parent = sources[0].parent().filter(|parent| {
        let is_in_it = |source: &PathBuf| source.parent() == Some(*parent);
        sources.iter().all(is_in_it)
    });
    let parent = match parent {
        Some(parent) if parent.as_os_str().is_empty() => ".".to_owned(),
        Some(parent) => quoted(&parent.display().to_string()),
        None => "a folder that holds them".to_owned(),
    };
    say(&format!(
        "  no labels: folders of files alone have none; name {parent} as the source, and each \
         becomes a class"
    ));
}

fn print_next(reports: &[WriteReport], to: &str) {
    let named = |name: &str| {
        reports
            .iter()
            .find(|r| r.set.rsplit('/').next() == Some(name))
            .map(|r| r.set.clone())
    };
    say("next:");
    for report in reports {
        say(&format!("  shards verify {}", quoted(&report.set)));
    }
    let train = quoted(&named("train").unwrap_or_else(|| to.to_owned()));
    let val = named("val").map_or(String::new(), |set| {
        format!(" --set data.val={}", quoted(&set))
    });
    say(&format!(
        "  understudy train CONFIG --set data.train={train}{val}"
    ));
}

/// A name as a shell takes it for one word.
fn quoted(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if name.chars().all(is_plain) {
        name.to_owned()
    } else {
        format!("'{}'", name.replace('\'', r"'\''"))
    }
}

fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// A line of the report. Whoever closed the pipe wants no more of it.
fn say(line: &str) {
    let _closed = writeln!(std::io::stdout(), "{line}");
}
