//! Datasets of audio become batches of equal cost and one length.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray};
use support::config as image_config;
use support::datasets::{audio_rows, batch, by_lanes, check_stream, pcm, steps, wav, write_shard};
use understudy_pipelines::batch::{Batch, Media};
use understudy_pipelines::bench;
use understudy_pipelines::config::{AudioConfig, MaskConfig};
use understudy_pipelines::inspect::inspect;
use understudy_pipelines::mask::{Blocks, Spans};
use understudy_pipelines::pipeline::{Options, Pipeline};
use understudy_pipelines::plan::Report;
use understudy_pipelines::verify::verify;
use understudy_pipelines::{DataConfig, Error, pipeline};

const RATE: u32 = 8000;
const N_ROWS: usize = 240;
const MIN_FRAMES: usize = 400;
const MAX_FRAMES: usize = 1600;
const EPS: f64 = 1e-5;
/// Frames that a lane may take of a step.
const SHARE: u64 = 6000;

/// Returns the length of an utterance, 300 to 2,299 frames: some too short, some to be cropped.
fn n_frames(row: usize) -> usize {
    300 + row * 733 % 2000
}

fn utterances() -> Vec<Vec<u8>> {
    (0..N_ROWS)
        .map(|row| wav(&pcm(row, n_frames(row)), RATE))
        .collect()
}

fn write(folder: &Path, utterances: &[Vec<u8>]) {
    let lengths: Vec<i64> = (0..N_ROWS).map(|row| n_frames(row) as i64).collect();
    let rows = audio_rows(utterances, &lengths, RATE as i32);
    for (i, at) in (0..N_ROWS).step_by(80).enumerate() {
        let path = folder.join(format!("train-{i}.parquet"));
        write_shard(&path, &rows.slice(at, 80), 5);
    }
}

/// Four lanes of 6,000 frames a step, in windows of four row groups.
fn config(folder: &Path) -> DataConfig {
    DataConfig {
        batch: None,
        batch_seconds: Some(4.0 * SHARE as f64 / f64::from(RATE)),
        window_chunks: 4,
        image: None,
        audio: Some(AudioConfig {
            sample_rate_hz: RATE,
            min_frames: MIN_FRAMES,
            max_frames: MAX_FRAMES,
            normalize_eps: EPS,
            window_frames: 40,
            hop_frames: 32,
        }),
        mask: MaskConfig::Spans(Spans {
            prob: 0.65,
            length: 5,
        }),
        ..image_config(folder)
    }
}

fn dataset() -> (tempfile::TempDir, DataConfig) {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), &utterances());
    let config = config(folder.path());
    (folder, config)
}

/// Frames, waveforms and lengths of a batch.
fn audio(batch: &Batch) -> (usize, &[f32], &[u32]) {
    match &batch.media {
        Media::Audio {
            n_frames,
            waveforms,
            lengths,
        } => (*n_frames, waveforms, lengths),
        _ => panic!("not a batch of audio"),
    }
}

/// Normalises an utterance, in double precision.
fn normalised(row: usize) -> Vec<f64> {
    let values = pcm(row, n_frames(row));
    let values: Vec<f64> = values.iter().map(|&v| f64::from(v) / 32768.0).collect();
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
    let scale = 1.0 / (variance + EPS).sqrt();
    values.iter().map(|v| (v - mean) * scale).collect()
}

/// Returns the first frame of a crop in its utterance.
fn place_of(crop: &[f32], row: usize) -> usize {
    let full = normalised(row);
    let is_at = |at: &usize| {
        let there = full[*at..].iter().zip(crop);
        there.clone().count() == crop.len()
            && there
                .into_iter()
                .all(|(a, b)| (a - f64::from(*b)).abs() < 1e-4)
    };
    (0..=full.len() - crop.len())
        .find(is_at)
        .expect("a crop of its own utterance")
}

#[test]
fn steps_by_seconds_have_every_utterance_once_and_stay_within_their_cost() {
    let (_folder, config) = dataset();
    let batches = check_stream(&config, 60);
    let mut seen: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    let mut places = BTreeSet::new();
    for batch in &batches {
        let (n_cropped, waveforms, lengths) = audio(batch);
        assert!((MIN_FRAMES..=MAX_FRAMES).contains(&n_cropped));
        assert_eq!(waveforms.len(), batch.n_samples * n_cropped);
        assert_eq!(lengths, vec![n_cropped as u32; batch.n_samples]);
        let planned = batch
            .samples
            .iter()
            .map(|sample| n_frames(sample.row as usize).min(MAX_FRAMES));
        assert_eq!(planned.clone().min(), Some(n_cropped), "the shortest");
        let padded = batch.n_samples * planned.max().expect("a sample");
        assert!(padded as u64 <= SHARE);
        // Positions of the crop, and as many masked in every sample.
        assert_eq!(batch.n_positions, (n_cropped - 40) / 32 + 1);
        let counts: BTreeSet<u32> = batch
            .masks
            .chunks(batch.n_positions)
            .map(|mask| mask.iter().map(|&masked| u32::from(masked)).sum())
            .collect();
        assert_eq!(counts.len(), 1, "{counts:?}");
        assert!(counts.first() > Some(&0));
        for (sample, waveform) in batch.samples.iter().zip(waveforms.chunks(n_cropped)) {
            assert!(seen.entry(sample.epoch).or_default().insert(sample.row));
            if batch.step < 4 {
                places.insert(place_of(waveform, sample.row as usize));
            }
        }
    }
    let planned: BTreeSet<u64> = (0..N_ROWS as u64)
        .filter(|&row| n_frames(row as usize) >= MIN_FRAMES)
        .collect();
    assert!(planned.len() < N_ROWS && seen.len() > 3);
    assert_eq!(seen[&0], planned);
    assert_eq!(seen[&1], planned);
    assert!(places.len() > 20, "crops begin at {places:?}");
}

#[test]
fn block_masks_have_one_count_and_differ() {
    let (_folder, mut config) = dataset();
    config.mask = MaskConfig::Blocks(Blocks {
        n_masks: 3,
        prob: 0.5,
        prob_adjust: 0.05,
        block: 5,
    });
    for batch in check_stream(&config, 9) {
        assert_eq!(batch.masks.len(), batch.n_samples * 3 * batch.n_positions);
        let rows: BTreeSet<&[u8]> = batch.masks.chunks(batch.n_positions).collect();
        // Of so few positions two may be the same by chance.
        assert!(rows.len() > batch.n_samples * 2, "{} masks", rows.len());
        for mask in batch.masks.chunks(batch.n_positions) {
            let n_masked: usize = mask.iter().map(|&masked| usize::from(masked)).sum();
            assert_eq!(n_masked, batch.n_positions / 2);
        }
    }
}

#[test]
fn bad_utterance_is_left_out_and_moves_no_other_sample() {
    let (_folder, good) = dataset();
    let folder = tempfile::tempdir().expect("a folder");
    let mut utterances = utterances();
    utterances[33].truncate(60); // The hash of its bytes is right, but they are not audio.
    utterances[102].clear();
    write(folder.path(), &utterances);
    let config = config(folder.path());
    let whole = steps(&good, 1, 2, 40);
    let found = check_stream(&config, 40);
    let mut n_short = 0;
    for (found, whole) in found.iter().zip(&whole) {
        let mut kept = whole.samples.clone();
        kept.retain(|sample| ![33, 102].contains(&sample.row));
        assert_eq!(found.samples, kept);
        if kept.len() == whole.samples.len() {
            assert!(found == whole);
        } else {
            n_short += 1;
        }
    }
    assert!(n_short > 1, "the bad rows never came");
}

#[test]
fn step_of_a_lane_may_be_empty() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut utterances = utterances();
    for utterance in &mut utterances[..200] {
        *utterance = vec![0; 10];
    }
    write(folder.path(), &utterances);
    let mut config = config(folder.path());
    config.max_bad_fraction = 1.0;
    config.batch_seconds = Some(4.0 * MAX_FRAMES as f64 / f64::from(RATE));
    let batches = check_stream(&config, 60);
    let n_empty = batches.iter().filter(|batch| batch.n_samples == 0).count();
    assert!(
        n_empty > 10 && n_empty < batches.len(),
        "{n_empty} empty batches"
    );
    for batch in batches.iter().filter(|batch| batch.n_samples == 0) {
        assert_eq!(audio(batch), (0, &[][..], &[][..]));
        assert!(batch.masks.is_empty());
    }
}

#[test]
fn foreign_audio_without_lengths_is_batched_by_count() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut utterances: Vec<Vec<u8>> = (0..60)
        .map(|row| wav(&pcm(row, 500 + 10 * row), RATE))
        .collect();
    utterances[7].truncate(50);
    let encoded: BinaryArray = utterances.iter().map(Some).collect();
    let rows = batch(vec![("sound", Arc::new(encoded) as ArrayRef)]);
    write_shard(&folder.path().join("a.parquet"), &rows, 5);
    let mut config = config(folder.path());
    config.columns.insert("audio".into(), "sound".into());
    let refused = Pipeline::train(&config, &by_lanes(&config, 0, 1, 1));
    let text = refused.expect_err("no lengths").to_string();
    assert!(
        text.contains("n_frames") && text.contains("`batch`"),
        "{text}"
    );

    (config.batch, config.batch_seconds) = (Some(12), None);
    let batches = check_stream(&config, 15);
    let mut first_epoch = BTreeSet::new();
    for batch in &batches {
        assert_eq!(batch.n_samples, 3);
        let lengths = batch.samples.iter().map(|s| 500 + 10 * s.row as usize);
        assert_eq!(Some(audio(batch).0), lengths.min());
        let of_first = batch.samples.iter().filter(|s| s.epoch == 0);
        first_epoch.extend(of_first.map(|sample| sample.row));
    }
    assert_eq!(first_epoch.len(), 59);
    assert!(!first_epoch.contains(&7));
}

#[test]
fn too_short_utterances_are_left_out_and_not_bad() {
    let folder = tempfile::tempdir().expect("a folder");
    let is_short = |row: u64| row % 3 == 1;
    let utterances: Vec<Vec<u8>> = (0..60)
        .map(|row| {
            let n_frames = if is_short(row) { 100 } else { 500 };
            wav(&pcm(row as usize, n_frames), RATE)
        })
        .collect();
    let encoded: BinaryArray = utterances.iter().map(Some).collect();
    let rows = batch(vec![("audio", Arc::new(encoded) as ArrayRef)]);
    write_shard(&folder.path().join("a.parquet"), &rows, 5);
    let mut config = config(folder.path());
    (config.batch, config.batch_seconds) = (Some(12), None);
    config.max_bad_fraction = 0.0;
    let quarantine = folder.path().join("bad.jsonl");
    let options = Options {
        quarantine: Some(quarantine.clone()),
        ..by_lanes(&config, 0, 1, 2)
    };
    let samples = |pipeline: &mut Pipeline, n: usize| -> Vec<_> {
        let batches = pipeline.take(n).map(|batch| batch.expect("a batch"));
        batches.flat_map(|batch| batch.samples).collect()
    };
    let mut unbroken = Pipeline::train(&config, &options).expect("a pipeline");
    let expected = samples(&mut unbroken, 60);
    assert!(expected.iter().all(|sample| !is_short(sample.row)));
    assert_eq!(unbroken.bad_rows(), Vec::<u64>::new());
    assert!(!quarantine.exists());

    let mut first = Pipeline::train(&config, &options).expect("a pipeline");
    samples(&mut first, 20);
    let short_rows = first.short_rows();
    assert!(!short_rows.is_empty() && short_rows.iter().all(|&row| is_short(row)));
    assert_eq!(first.stats().short_samples, short_rows.len() as u64);
    let resumed = Options {
        start_step: 5,
        short_rows,
        ..options
    };
    let mut resumed = Pipeline::train(&config, &resumed).expect("a pipeline");
    assert_eq!(samples(&mut resumed, 40), expected[60..]);

    // If all are too short, the error says so.
    config.audio.as_mut().expect("audio").min_frames = 700;
    let mut pipeline = Pipeline::train(&config, &by_lanes(&config, 0, 1, 2)).expect("a pipeline");
    let error = pipeline.find_map(Result::err).expect("no sample");
    assert!(matches!(error, Error::NoGoodSample { .. }), "{error}");
    assert!(error.to_string().contains("minimum 700"), "{error}");
}

#[test]
fn evaluation_pads_full_utterances_and_labels_them() {
    let (_folder, config) = dataset();
    let options = Options {
        threads: 2,
        ..Options::default()
    };
    let pass = Pipeline::evaluate(&config, &config.train.to_string(), 7, &options).expect("a pass");
    let mut row = 0;
    for batch in pass {
        let batch = batch.expect("a batch");
        let (longest, waveforms, lengths) = audio(&batch);
        assert_eq!(longest as u32, *lengths.iter().max().expect("a sample"));
        for (waveform, &length) in waveforms.chunks(longest).zip(lengths) {
            assert_eq!(
                length as usize,
                n_frames(row),
                "neither cropped nor left out"
            );
            assert_eq!(place_of(&waveform[..length as usize], row), 0);
            assert!(
                waveform[length as usize..]
                    .iter()
                    .all(|&value| value == 0.0)
            );
            row += 1;
        }
        let labels: Vec<i64> = batch.samples.iter().map(|s| s.row as i64 % 3).collect();
        assert_eq!(batch.labels, labels);
        assert!(batch.masks.is_empty());
    }
    assert_eq!(row, N_ROWS);
}

#[test]
fn other_rates_are_resampled_and_planned_at_the_configs_rate() {
    let folder = tempfile::tempdir().expect("a folder");
    let utterances: Vec<Vec<u8>> = (0..80)
        .map(|row| wav(&pcm(row, 1000 + 20 * row), 2 * RATE))
        .collect();
    let lengths: Vec<i64> = (0..80).map(|row| 1000 + 20 * row).collect();
    let rows = audio_rows(&utterances, &lengths, 2 * RATE as i32);
    write_shard(&folder.path().join("a.parquet"), &rows, 4);
    for batch in check_stream(&config(folder.path()), 6) {
        let (n_frames, ..) = audio(&batch);
        let shortest = batch
            .samples
            .iter()
            .map(|s| (1000 + 20 * s.row) as usize / 2);
        assert_eq!(Some(n_frames), shortest.min().map(|n| n.min(MAX_FRAMES)));
    }
}

#[test]
fn joined_lanes_and_too_little_memory_are_rejected() {
    let (_folder, mut config) = dataset();
    let error = Pipeline::train(&config, &Options::default()).expect_err("one micro-batch");
    let text = error.to_string();
    assert!(
        text.contains("1 micro-batches per step") && text.contains("must be 4"),
        "{text}"
    );
    config.memory = "300KB".into();
    let error = Pipeline::train(&config, &by_lanes(&config, 0, 1, 1)).expect_err("too little");
    assert!(error.to_string().contains("`memory`"), "{error}");
}

#[test]
fn plan_inspect_verify_and_bench_handle_audio() {
    let (_folder, config) = dataset();
    let planned = pipeline::plan(&config).expect("a plan");
    let plan = &planned.plan;
    let report = Report::new(&planned.mixture, plan, planned.memory).expect("a report");
    let cost = report.cost.as_ref().expect("a plan by cost");
    assert_eq!(cost.lane_share, SHARE);
    assert_eq!(cost.left_out, N_ROWS as u64 - plan.n_planned());
    assert!(cost.used_share > 0.6 && cost.used_share <= 1.0, "{cost:?}");
    assert!(
        cost.padding_share > 0.0 && cost.padding_share < 0.3,
        "{cost:?}"
    );
    let worlds: Vec<usize> = cost.balance.iter().map(|&(world, _)| world).collect();
    assert_eq!(worlds, [2, 4]);
    for &(_, balance) in &cost.balance {
        assert!(balance > 0.7 && balance <= 1.0, "{cost:?}");
    }
    // Two ranks share the windows that one holds; with what the report asks for, they start.
    let [one, two, four] = report.memory[..] else {
        panic!("{:?}", report.memory);
    };
    assert!(one.least_bytes > two.least_bytes && two.least_bytes > four.least_bytes);
    assert!(one.ahead_bytes > one.least_bytes);
    assert!(report.to_string().contains("added by padding"), "{report}");

    let inspection = inspect(&config.train.to_string(), &config.columns, 2).expect("a dataset");
    assert_eq!(inspection.rows, N_ROWS as u64);
    assert!(inspection.samples[0].contains("8000 Hz"), "{inspection}");

    let mut problems = Vec::new();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let mut found = |problem: understudy_pipelines::verify::Problem| problems.push(problem.reason);
    let done = verify(
        &config.train.to_string(),
        &config.columns,
        &mut found,
        &mut |_, _| (),
        &stop,
    );
    assert_eq!(done.expect("a dataset").rows, N_ROWS as u64);
    assert!(problems.is_empty(), "{problems:?}");

    let time = std::time::Duration::from_millis(10);
    let report = bench::run(&config, &Options::default(), time).expect("a bench");
    assert!(report.samples_per_sec > 0.0);
}
