//! `shards write`: the options, and one run of the command.

mod output;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::ValueEnum;
use understudy_pipelines::Error;
use understudy_pipelines::config::{Modality, parse_bytes};
use understudy_pipelines::write::{
    AudioOptions, BlockBoundary, Check, Encode, EncodeOptions, End, ImageOptions, TokenOptions,
    WriteOptions, write,
};

use self::output::{ProgressDisplay, print_bare, print_next, print_report, say};
use crate::{Interrupted, columns, stop_on_signal};

#[derive(clap::Args)]
#[command(after_help = "\
Sources of any schema:
  root/train/... and root/val/...        two datasets, TO/train and TO/val, with one class list
                                         (also training, valid, validation, dev, test, in any case)
  *.parquet, *.arrow                     Hugging Face layout, or plain columns
  a folder of such files                 files named train-... and validation-... are two datasets
Images and audio:
  root/<class>/**/*.jpg                  class folders; a folder of only files has no labels
  *.tar, *.tar.gz                        WebDataset: 0001.jpg with 0001.cls, .json or .txt;
                                         for audio, .txt is the transcript
Audio:
  LibriSpeech/train-clean-100            *.flac with *.trans.txt; speakers from the file names
  train.tsv, valid.tsv                   fairseq's lists, with .wrd or .ltr files next to them
  manifest.tsv|csv|jsonl, metadata....   in the folder, or a list of any name as the source itself:
                                         path (or file_name), transcript (or text), speaker, label,
                                         split; the files are relative to the list
Texts:
  *.txt                                  running text; a blank line ends a document
  *.jsonl                                one object per line: text, text_b, label, score
  *.tsv                                  GLUE's tables, as published
  (README, LICENSE and the like are ignored; compressed texts are refused: decompress them first)

Files of folders and lists are written in a random order with a fixed seed, so that every row group \
mixes classes and speakers. Tars, columnar files, tables and texts keep their order.

With --tokenizer, texts are packed into blocks for pre-training: `<s>` and up to N-1 tokens, with \
`</s>` after each line; labels and second texts are dropped. A document longer than 1 MiB is split \
between lines; without --tokenizer each of these is a row.

Bad samples (undecodable, truncated, empty, blank, not UTF-8, over a limit, label out of range) are \
skipped, and listed with reasons in TO/quarantine.jsonl. A class that --labels lacks is an error.

If a run was killed or the disk was full, run the same command again: it resumes after the last \
finished shard.

With --to a store, each shard is first written to the system's temporary folder (TMPDIR), which \
needs space for one shard, and then uploaded; any machine can resume. Credentials come from the \
environment.")]
pub(crate) struct Args {
    /// Folders, tars, lists, tables, texts, Parquet or Arrow files, or folders of these.
    #[arg(required = true, value_name = "SOURCE")]
    sources: Vec<PathBuf>,
    /// Folder of the dataset: a path, or an s3, gs or az URL.
    #[arg(long, value_name = "URL")]
    to: String,
    /// Kind of the samples.
    #[arg(long, value_enum, default_value = "image")]
    schema: Modality,
    /// Use the class list of another dataset: a folder of shards, local or a URL, or a Parquet file.
    #[arg(long, value_name = "FROM")]
    labels: Option<String>,
    /// Map our columns to the source's, `image=img,label=fine_label`; `label=` drops a column. For a
    /// tar, THEIRS is an extension. OURS: image, label; audio, transcript, speaker, label; text,
    /// `text_b`, label, score.
    #[arg(long, value_name = "OURS=THEIRS", value_delimiter = ',', value_parser = columns::parse)]
    columns: Vec<(String, String)>,
    /// Resize larger images to N pixels at the short side, and store them as JPEG.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    resize_short: Option<u32>,
    /// JPEG quality of images that are encoded again; default 90.
    #[arg(long, value_name = "Q", value_parser = clap::value_parser!(u8).range(1..=100))]
    quality: Option<u8>,
    /// keep (default): images that are not resized keep their bytes; jpeg: encode all images again.
    #[arg(long, value_enum)]
    encode: Option<EncodeName>,
    /// decode (default): decode every image or audio file once; header: read only its header, which is
    /// much faster but does not detect truncated files.
    #[arg(long, value_enum)]
    check: Option<CheckName>,
    /// Pack texts into blocks of tokens, with the vocabulary in this folder or file: vocab.json with
    /// merges.txt, encoder.json with vocab.bpe, or tokenizer.json.
    #[arg(long, value_name = "DIR")]
    tokenizer: Option<PathBuf>,
    /// Tokens per block, including `<s>`; default 512.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(8..=1 << 16))]
    block_tokens: Option<u32>,
    /// document (default): a block holds complete lines of one document (fairseq's `complete_doc`);
    /// none: cut blocks from one stream of all documents. If blank lines separate paragraphs,
    /// document leaves most blocks half empty.
    #[arg(long = "break", value_enum)]
    break_at: Option<BreakName>,
    /// Size at which a shard is closed.
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = parse_bytes)]
    shard_bytes: u64,
    /// Size at which a row group is closed; training reads one row group at a time.
    #[arg(long, value_name = "SIZE", default_value = "8MiB", value_parser = parse_bytes)]
    row_group_bytes: u64,
    /// Threads that check and encode; default: one per core.
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
    let mut display = ProgressDisplay::new();
    let outcome = write(&options, &mut |progress| display.show(progress), &stop);
    display.finish();
    let reports = outcome.map_err(|error| {
        let hint = match &error {
            Error::Io { source, .. } if is_full(source) => {
                "disk full\nhint: free space, then run the same command again; finished shards are kept"
            }
            _ => return anyhow::Error::from(error),
        };
        anyhow::Error::from(error).context(hint)
    })?;
    for report in &reports {
        print_report(report);
        if let Some(fill) = report.fill {
            args.print_fill(fill);
        }
        if report.bare_folders > 1 {
            print_bare(&args.sources);
        }
    }
    let interrupted = reports.iter().any(|report| report.end == End::Interrupted);
    if interrupted {
        let message = "finished shards are kept; run the same command again to resume";
        return Err(Interrupted(message.to_owned()).into());
    }
    print_next(&reports, &args.to);
    Ok(())
}

impl Args {
    fn options(&self) -> Result<WriteOptions, Error> {
        let mut faults = self.inapplicable_options();
        let encode = self.encode_options();
        for (ours, theirs) in &self.columns {
            let columns = encode.columns();
            if !columns.contains(&ours.as_str()) {
                let columns = columns.join(", ");
                faults.push(format!(
                    "--columns {ours}=: unknown column; expected one of {columns}"
                ));
            } else if ours == columns[0] && theirs.is_empty() {
                faults.push(format!("--columns {ours}=: cannot be dropped"));
            }
        }
        if !(1 << 16..=16 << 20).contains(&self.row_group_bytes) {
            faults.push("--row-group-bytes: must be between 64KiB and 16MiB".to_owned());
        }
        if self.shard_bytes < self.row_group_bytes {
            faults.push("--shard-bytes: smaller than --row-group-bytes".to_owned());
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
            "\n  hint: --break none fills them across documents"
        } else {
            ""
        };
        let percent = 100.0 * fill;
        say(&format!(
            "  blocks are {percent:.0} % full, the rest is padding{advice}"
        ));
    }

    /// Returns an error per option that does not apply to this schema.
    fn inapplicable_options(&self) -> Vec<String> {
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
                "--schema image",
            ),
            (
                self.quality.is_some() && !image,
                "--quality",
                "--schema image",
            ),
            (
                self.encode.is_some() && !image,
                "--encode",
                "--schema image",
            ),
            (
                self.quality.is_some() && image && !encodes,
                "--quality",
                "--resize-short and --encode jpeg",
            ),
            (
                self.check.is_some() && text,
                "--check",
                "--schema image and audio",
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
                "datasets with labels",
            ),
        ];
        let inapplicable = given.into_iter().filter(|(given, ..)| *given);
        inapplicable
            .map(|(_, option, of)| format!("{option}: only for {of}"))
            .collect()
    }
}

fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}
