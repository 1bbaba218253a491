//! A child process that reads a dataset and reports its batches, and the parent that watches it.
//!
//! A child process has its own environment (with the credentials). It can crash or hang without harm,
//! and is killed when it hangs.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use understudy_pipelines::DataConfig;
use understudy_pipelines::batch::{Batch, Media};
use understudy_pipelines::pipeline::{Options, Pipeline};
use xxhash_rust::xxh3::Xxh3;

/// Variable with the config's table `[data]` as JSON, for [`read`].
const DATA: &str = "UNDERSTUDY_TEST_DATA_TABLE";

/// Time between two ticks of a reader, which never stop. Silence is measured in ticks: a pause of the
/// machine adds one tick only, where a clock would count it as the reader's.
const TICK: Duration = Duration::from_millis(500);
/// A reader without output for this time hangs.
const HANGS_AFTER: Duration = Duration::from_mins(1);
/// A reader without a tick for this time does not run at all.
const STOPPED_AFTER: Duration = Duration::from_mins(10);

/// Outcome of a reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// An epoch of training steps and an evaluation pass, with hashes of all batches in order.
    Finished(Digest),
    /// It ended with an error, with this message.
    Stopped(String),
    /// It died, or panicked.
    Crashed(String),
    /// It had no output for a minute.
    Hung,
}

/// Hashes of batches in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Digest {
    /// Hash of samples, pixels and masks.
    pub(crate) media: String,
    pub(crate) labels: String,
}

/// Record of a reader.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) outcome: Outcome,
    /// Hashes of the training steps, if all were read.
    pub(crate) trained: Option<Digest>,
    /// The longest time without a batch or a log line, in ticks.
    pub(crate) longest_silence: Duration,
    pub(crate) took: Duration,
    /// Warnings of the log.
    pub(crate) warnings: Vec<String>,
}

/// Reads the dataset that the environment names, in a child process of [`watch`]. Returns false in
/// other processes.
pub(crate) fn read() -> bool {
    let Ok(json) = std::env::var(DATA) else {
        return false;
    };
    let log = tracing_subscriber::fmt().with_ansi(false);
    log.with_max_level(tracing::Level::WARN)
        .with_writer(std::io::stderr)
        .init();
    let config: DataConfig = serde_json::from_str(&json).expect("a [data] table");
    let print = |line: &str| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{line}").and_then(|()| out.flush())
    };
    let print_line = |line: &str| print(line).expect("the parent reads");
    // The test harness may have begun a line with the test's name.
    print_line("");
    std::thread::spawn(move || {
        while print("tick").is_ok() {
            std::thread::sleep(TICK);
        }
    });
    let json = |digest: &Digest| serde_json::to_string(digest).expect("JSON");
    let ended = train(&config, |batch| {
        print_line(&format!("batch {}", batch.step));
    })
    .and_then(|trained| {
        print_line(&format!("trained {}", json(&trained)));
        let passed = pass(&config, |batch| {
            print_line(&format!("batch {}", batch.step));
        })?;
        Ok(trained.then(&passed))
    });
    match ended {
        Ok(digest) => print_line(&format!("finished {}", json(&digest))),
        Err(error) => print_line(&format!("stopped {}", error.to_string().replace('\n', " "))),
    }
    true
}

/// Reads the training steps of about one epoch. Returns their hashes.
fn train(config: &DataConfig, mut got: impl FnMut(&Batch)) -> understudy_pipelines::Result<Digest> {
    let mut batches = Pipeline::train(config, &options())?;
    let n_steps = batches.rows() / config.batch.expect("a number of samples") as u64;
    hash(batches.by_ref().take(n_steps as usize), &mut got)
}

/// Reads all rows in an evaluation pass. Returns their hashes.
fn pass(config: &DataConfig, mut got: impl FnMut(&Batch)) -> understudy_pipelines::Result<Digest> {
    hash(
        Pipeline::evaluate(
            config,
            config.train.one().expect("one dataset"),
            16,
            &options(),
        )?,
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
            panic!("not a batch of images");
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
    /// Concatenates two digests.
    fn then(&self, next: &Self) -> Self {
        Self {
            media: format!("{}{}", self.media, next.media),
            labels: format!("{}{}", self.labels, next.labels),
        }
    }
}

/// Reads in this process, without a store. Returns the hashes of the training steps, and the outcome.
pub(crate) fn expected(config: &DataConfig) -> (Digest, Outcome) {
    let trained = train(config, |_| {}).expect("a local dataset");
    let passed = pass(config, |_| {}).expect("a local dataset");
    let outcome = Outcome::Finished(trained.then(&passed));
    (trained, outcome)
}

/// Starts `reader`, a command that calls [`read`], and watches it. Calls `meanwhile` with the number
/// of batches so far at each batch.
pub(crate) fn watch(
    reader: &mut Command,
    config: &DataConfig,
    environment: &[(&str, String)],
    mut meanwhile: impl FnMut(usize),
) -> Reading {
    let json = serde_json::to_string(config).expect("JSON");
    // Removes the user's own credentials.
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
    let (lines, received) = mpsc::channel();
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
        let line = received.recv_timeout(STOPPED_AFTER);
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
                // Output of the test harness.
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
    // Kills it if it hangs.
    let _gone = child.kill();
    let status = child.wait().expect("a child's state");
    for listener in listeners {
        listener.join().expect("it only reads");
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

fn listen(from: impl std::io::Read, mut send: impl FnMut(String) -> bool) {
    for line in BufReader::new(from).lines().map_while(Result::ok) {
        if !send(line) {
            break;
        }
    }
}
