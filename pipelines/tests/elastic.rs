//! A run resumed with other numbers of ranks takes the same samples as one unbroken rank.
//!
//! Each rank is a process of its own: this binary again, as [`rank_process`], which is killed when its
//! steps are done. From one run to the next only the state of a checkpoint is kept: the step, and the
//! bad rows that any rank has met.

mod support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde::{Deserialize, Serialize};
use support::datasets::by_lanes;
use support::mixtures;
use understudy_pipelines::DataConfig;
use understudy_pipelines::batch::{Batch, Media};
use understudy_pipelines::pipeline::{Options, Pipeline};
use xxhash_rust::xxh3::Xxh3;

/// Environment variable with the [`Job`] of a process.
const JOB: &str = "UNDERSTUDY_TEST_RANK";
const LANES: usize = 16;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Job {
    config: DataConfig,
    rank: usize,
    world: usize,
    start_step: u64,
    bad_rows: Vec<u64>,
}

/// One micro-batch, as a rank reports it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct LaneStep {
    step: u64,
    lane: usize,
    /// Epoch and row of each sample.
    samples: Vec<(u64, u64)>,
    /// Hash of crops, waveforms, masks and all other fields of a batch.
    hash: u64,
    /// All bad rows that the rank has met so far.
    bad_rows: Vec<u64>,
}

#[test]
fn images_by_count_resume_with_other_ranks() {
    let folder = tempfile::tempdir().expect("a folder");
    let mix = mixtures::images(folder.path(), LANES);
    let one = DataConfig {
        train: folder.path().join("a").display().to_string().into(),
        ..mix.clone()
    };
    check(&one);
    check(&mix);
}

#[test]
fn audio_by_cost_resumes_with_other_ranks() {
    let folder = tempfile::tempdir().expect("a folder");
    let mix = mixtures::audio(folder.path(), LANES);
    let one = DataConfig {
        train: folder.path().join("a").display().to_string().into(),
        ..mix.clone()
    };
    check(&one);
    check(&mix);
}

/// Does the job of a process that [`spawn`] starts; does nothing in other processes.
#[test]
fn rank_process() {
    let Ok(job) = std::env::var(JOB) else {
        return;
    };
    let Job {
        config,
        rank,
        world,
        start_step,
        bad_rows,
    } = serde_json::from_str(&job).expect("a job");
    let options = Options {
        start_step,
        bad_rows,
        ..by_lanes(&config, rank, world, 1)
    };
    let mut pipeline = Pipeline::train(&config, &options).expect("a pipeline");
    let mut out = std::io::stdout();
    while let Some(batch) = pipeline.next() {
        let batch = batch.expect("a batch");
        let reported = LaneStep {
            step: batch.step,
            lane: rank * batch.n_micro_batches + batch.micro_batch,
            samples: batch.samples.iter().map(|s| (s.epoch, s.row)).collect(),
            hash: hash(&batch),
            bad_rows: pipeline.bad_rows(),
        };
        let line = serde_json::to_string(&reported).expect("JSON");
        writeln!(out, "{line}").expect("a listener");
    }
}

/// Checks that two ranks, then eight, then one, then sixteen take the same steps as one unbroken rank.
fn check(config: &DataConfig) {
    let mut bad_rows = BTreeSet::new();
    let unbroken = run(config, 1, 0, 40, &mut bad_rows);
    assert!(!bad_rows.is_empty(), "no bad row was met");
    let mut bad_rows = BTreeSet::new();
    let mut start = 0;
    for (world, end) in [(2, 9), (8, 17), (1, 18), (1, 25), (16, 33), (4, 40)] {
        let found = run(config, world, start, end, &mut bad_rows);
        let expected = unbroken.iter();
        let expected: Vec<_> = expected
            .filter(|reported| (start..end).contains(&reported.step))
            .collect();
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            let what = format!("step {} of {world} ranks, lane {}", found.step, found.lane);
            assert_eq!((found.step, found.lane), (expected.step, expected.lane));
            assert_eq!(found.samples, expected.samples, "{what}");
            assert_eq!(found.hash, expected.hash, "{what}");
        }
        start = end;
    }
}

/// Returns the micro-batches of `world` processes in the steps `start..end`, step by step and lane by
/// lane. Adds the bad rows that they have met to those that were met before.
fn run(
    config: &DataConfig,
    world: usize,
    start: u64,
    end: u64,
    bad_rows: &mut BTreeSet<u64>,
) -> Vec<LaneStep> {
    let jobs = (0..world).map(|rank| Job {
        config: config.clone(),
        rank,
        world,
        start_step: start,
        bad_rows: bad_rows.iter().copied().collect(),
    });
    let ranks: Vec<Rank> = jobs.map(|job| spawn(&job)).collect();
    let n_lines = (end - start) as usize * LANES / world;
    let mut steps = Vec::new();
    for mut rank in ranks {
        let reported: Vec<LaneStep> = (0..n_lines).map(|_| rank.next()).collect();
        rank.process.kill().expect("running until now");
        rank.process.wait().expect("gone");
        bad_rows.extend(reported.iter().flat_map(|reported| &reported.bad_rows));
        steps.extend(reported);
    }
    steps.sort_by_key(|reported| (reported.step, reported.lane));
    steps
}

struct Rank {
    process: Child,
    lines: BufReader<ChildStdout>,
}

fn spawn(job: &Job) -> Rank {
    let mut process = Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", "rank_process", "--nocapture"])
        .env(JOB, serde_json::to_string(job).expect("JSON"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("a process");
    let lines = BufReader::new(process.stdout.take().expect("piped"));
    Rank { process, lines }
}

impl Rank {
    /// Reads the next report of the process, and skips the lines of the test harness.
    fn next(&mut self) -> LaneStep {
        loop {
            let mut line = String::new();
            let n_bytes = self.lines.read_line(&mut line).expect("text");
            assert!(n_bytes > 0, "a rank has ended");
            // With one thread the harness begins the first line with the test's name.
            if let Some(at) = line.find('{') {
                return serde_json::from_str(&line[at..]).expect("a report");
            }
        }
    }
}

/// Hashes all fields of a batch except the step and the micro-batch.
fn hash(batch: &Batch) -> u64 {
    let mut hash = Xxh3::new();
    let mut numbers = |values: &[u32]| {
        hash.update(&(values.len() as u64).to_le_bytes());
        for value in values {
            hash.update(&value.to_le_bytes());
        }
    };
    match &batch.media {
        Media::Images { pixels, .. } => {
            numbers(&pixels.iter().map(|&byte| byte.into()).collect::<Vec<_>>());
        }
        Media::Audio {
            waveforms, lengths, ..
        } => {
            numbers(
                &waveforms
                    .iter()
                    .map(|value| value.to_bits())
                    .collect::<Vec<_>>(),
            );
            numbers(lengths);
        }
        Media::Text {
            tokens,
            student_tokens,
            lengths,
            ..
        } => {
            numbers(tokens);
            numbers(student_tokens);
            numbers(lengths);
        }
    }
    numbers(
        &batch
            .masks
            .iter()
            .map(|&byte| byte.into())
            .collect::<Vec<_>>(),
    );
    numbers(&[
        batch.n_samples as u32,
        batch.n_masks as u32,
        batch.n_positions as u32,
    ]);
    hash.digest()
}
