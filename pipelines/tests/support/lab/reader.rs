//! A process that reads a set and says what it got, and the one that watches it.
//!
//! A process of its own has its own environment (credentials come from there), can crash and hang
//! without harm, and is killed when it does.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use understudy_pipelines::DataConfig;
use understudy_pipelines::batch::{Batch, Media};
use understudy_pipelines::pipeline::{Options, Pipeline};
use xxhash_rust::xxh3::Xxh3;

/// The recipe's `[data]` table as JSON, for [`read`].
const DATA: &str = "UNDERSTUDY_TEST_DATA_TABLE";

/// A reader ticks so often, whatever else it does. Silence is measured by its ticks: a machine that
/// pauses for a while adds one, where a clock would take the pause for the reader's own.
const TICK: Duration = Duration::from_millis(500);
/// Silent for so long, a reader hangs.
const HANGS_AFTER: Duration = Duration::from_mins(1);
/// Without even a tick for so long, it does not run at all.
const STANDS_STILL_AFTER: Duration = Duration::from_mins(10);

/// What became of a reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// An epoch of training steps and a pass, and what they were: hashes of all batches in order.
    Finished(Digest),
    /// It ended with an error, in its words.
    Stopped(String),
    /// It died, or panicked.
    Crashed(String),
    /// It said nothing for a minute.
    Hung,
}

/// Hashes of batches in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Digest {
    /// Of samples, pixels and masks.
    pub(crate) media: String,
    pub(crate) labels: String,
}

/// What a reader did.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) outcome: Outcome,
    /// The hash of the training steps, if they came to their end.
    pub(crate) trained: Option<Digest>,
    /// The longest time without a batch or a word, in whole ticks.
    pub(crate) longest_silence: Duration,
    pub(crate) took: Duration,
    /// Warnings of the log.
    pub(crate) warnings: Vec<String>,
}

/// Reads the set that the environment names, in the process that [`watch`] started; false in others.
pub(crate) fn read() -> bool {
    let Ok(json) = std::env::var(DATA) else {
        return false;
    };
    let log = tracing_subscriber::fmt().with_ansi(false);
    log.with_max_level(tracing::Level::WARN)
        .with_writer(std::io::stderr)
        .init();
    let config: DataConfig = serde_json::from_str(&json).expect("a [data] table");
    let tell = |line: &str| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{line}").and_then(|()| out.flush())
    };
    let say = |line: &str| tell(line).expect("somebody listens");
    // The test harness may have begun a line with the test's name.
    say("");
    std::thread::spawn(move || {
        while tell("tick").is_ok() {
            std::thread::sleep(TICK);
        }
    });
    let json = |digest: &Digest| serde_json::to_string(digest).expect("JSON");
    let ended = train(&config, |batch| say(&format!("batch {}", batch.step))).and_then(|trained| {
        say(&format!("trained {}", json(&trained)));
        let passed = pass(&config, |batch| say(&format!("batch {}", batch.step)))?;
        Ok(trained.then(&passed))
    });
    match ended {
        Ok(digest) => say(&format!("finished {}", json(&digest))),
        Err(error) => say(&format!("stopped {}", error.to_string().replace('\n', " "))),
    }
    true
}

/// The training steps of about one epoch; a hash of what came.
fn train(config: &DataConfig, mut got: impl FnMut(&Batch)) -> understudy_pipelines::Result<Digest> {
    let mut batches = Pipeline::train(config, &options())?;
    let n_steps = batches.rows() / config.batch.expect("a number of samples") as u64;
    hash(batches.by_ref().take(n_steps as usize), &mut got)
}

/// A pass over all rows; a hash of what came.
fn pass(config: &DataConfig, mut got: impl FnMut(&Batch)) -> understudy_pipelines::Result<Digest> {
    hash(
        Pipeline::evaluate(config, config.train.one().expect("one set"), 16, &options())?,
        &mut got,
    )
}

fn options() -> Options {
    Options {
        threads: 2,
        ..Options::default()
    }
}

fn hash(
    batches: impl Iterator<Item = understudy_pipelines::Result<Batch>>,
    got: &mut impl FnMut(&Batch),
) -> understudy_pipelines::Result<Digest> {
    let (mut media, mut labels) = (Xxh3::new(), Xxh3::new());
    for batch in batches {
        let batch = batch?;
        let Media::Images { pixels, .. } = &batch.media else {
            panic!("not a batch of pictures");
        };
        media.update(pixels);
        media.update(&batch.masks);
        for sample in &batch.samples {
            media.update(&sample.row.to_le_bytes());
        }
        for label in &batch.labels {
            labels.update(&label.to_le_bytes());
        }
        got(&batch);
    }
    Ok(Digest {
        media: format!("{:016x}", media.digest()),
        labels: format!("{:016x}", labels.digest()),
    })
}

impl Digest {
    /// One after the other.
    fn then(&self, next: &Self) -> Self {
        Self {
            media: format!("{}{}", self.media, next.media),
            labels: format!("{}{}", self.labels, next.labels),
        }
    }
}

/// What the same reading gives without a store, a process and a watch: the hash of the training
/// steps, and the outcome.
pub(crate) fn expected(config: &DataConfig) -> (Digest, Outcome) {
    let trained = train(config, |_| {}).expect("a local set");
    let passed = pass(config, |_| {}).expect("a local set");
    let outcome = Outcome::Finished(trained.then(&passed));
    (trained, outcome)
}

/// Starts `reader`, a command that comes to [`read`], and watches it. `meanwhile` is told the
/// number of batches so far at each one.
pub(crate) fn watch(
    reader: &mut Command,
    config: &DataConfig,
    environment: &[(&str, String)],
    mut meanwhile: impl FnMut(usize),
) -> Reading {
    let json = serde_json::to_string(config).expect("JSON");
    // Nothing of the person's own credentials.
    let foreign = std::env::vars().map(|(name, _)| name).filter(|name| {
        [
            "AWS_",
            "AZURE_",
            "GOOGLE_",
            "HF_",
            "http_proxy",
            "HTTP_PROXY",
        ]
        .iter()
        .any(|start| name.starts_with(start))
    });
    for name in foreign {
        reader.env_remove(name);
    }
    let home = tempfile::tempdir().expect("a folder");
    reader.env("HOME", home.path()).env(DATA, json);
    reader.envs(environment.iter().map(|(name, value)| (name, value)));
    reader
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let start = Instant::now();
    let mut child = reader.spawn().expect("a reader starts");
    let (lines, said) = mpsc::channel();
    let out = child.stdout.take().expect("a pipe");
    let errors = child.stderr.take().expect("a pipe");
    let other = lines.clone();
    let listeners = [
        std::thread::spawn(move || listen(out, |line| lines.send((true, line)).is_ok())),
        std::thread::spawn(move || listen(errors, |line| other.send((false, line)).is_ok())),
    ];

    let (mut outcome, mut trained) = (None, None);
    let (mut warnings, mut n_batches) = (Vec::new(), 0);
    let (mut silence, mut longest_silence) = (Duration::ZERO, Duration::ZERO);
    loop {
        let line = said.recv_timeout(STANDS_STILL_AFTER);
        if matches!(&line, Ok((true, line)) if line == "tick") {
            silence += TICK;
            longest_silence = longest_silence.max(silence);
            if silence < HANGS_AFTER {
                continue;
            }
            outcome = Some(Outcome::Hung);
            break;
        }
        silence = Duration::ZERO;
        match line {
            Ok((true, line)) => match line.split_once(' ') {
                Some(("batch", _)) => {
                    n_batches += 1;
                    meanwhile(n_batches);
                }
                Some(("trained", digest)) => trained = serde_json::from_str(digest).ok(),
                Some(("finished", digest)) => {
                    outcome = serde_json::from_str(digest).ok().map(Outcome::Finished);
                }
                Some(("stopped", error)) => outcome = Some(Outcome::Stopped(error.to_owned())),
                // The words of the test harness.
                _ => {}
            },
            Ok((false, line)) => warnings.push(line),
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                outcome = Some(Outcome::Hung);
                break;
            }
        }
    }
    // It has ended, unless it hangs.
    let _gone = child.kill();
    let status = child.wait().expect("a child's state");
    for listener in listeners {
        listener.join().expect("it only listens");
    }
    let crashed =
        |status: ExitStatus| Outcome::Crashed(format!("{status}: {}", warnings.join(" | ")));
    Reading {
        outcome: outcome.unwrap_or_else(|| crashed(status)),
        trained,
        longest_silence,
        took: start.elapsed(),
        warnings,
    }
}

fn listen(from: impl std::io::Read, mut tell: impl FnMut(String) -> bool) {
    for line in BufReader::new(from).lines().map_while(Result::ok) {
        if !tell(line) {
            break;
        }
    }
}
