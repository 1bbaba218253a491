//! Sets of recordings become batches of equal cost and one length.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray};
use support::config as pictures;
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

/// Recordings of 300 to 2,299 frames: some too short, some to be cropped.
fn n_frames(row: usize) -> usize {
    300 + row * 733 % 2000
}

fn recordings() -> Vec<Vec<u8>> {
    (0..N_ROWS)
        .map(|row| wav(&pcm(row, n_frames(row)), RATE))
        .collect()
}

fn write(folder: &Path, recordings: &[Vec<u8>]) {
    let lengths: Vec<i64> = (0..N_ROWS).map(|row| n_frames(row) as i64).collect();
    let rows = audio_rows(recordings, &lengths, RATE as i32);
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
        ..pictures(folder)
    }
}

fn set() -> (tempfile::TempDir, DataConfig) {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), &recordings());
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
        _ => panic!("not a batch of recordings"),
    }
}

/// What a recording should become, by a computation of the test's own.
fn normalised(row: usize) -> Vec<f64> {
    let values = pcm(row, n_frames(row));
    let values: Vec<f64> = values.iter().map(|&v| f64::from(v) / 32768.0).collect();
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
    let scale = 1.0 / (variance + EPS).sqrt();
    values.iter().map(|v| (v - mean) * scale).collect()
}

/// Where in its recording a crop lies.
fn place_of(crop: &[f32], row: usize) -> usize {
    let whole = normalised(row);
    let is_at = |at: &usize| {
        let there = whole[*at..].iter().zip(crop);
        there.clone().count() == crop.len()
            && there
                .into_iter()
                .all(|(a, b)| (a - f64::from(*b)).abs() < 1e-4)
    };
    (0..=whole.len() - crop.len())
        .find(is_at)
        .expect("a crop of its own recording")
}

#[test]
fn steps_by_seconds_hold_every_recording_once_and_cost_no_more_than_they_may() {
    let (_folder, config) = set();
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
        for (sample, wave) in batch.samples.iter().zip(waveforms.chunks(n_cropped)) {
            assert!(seen.entry(sample.epoch).or_default().insert(sample.row));
            if batch.step < 4 {
                places.insert(place_of(wave, sample.row as usize));
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
fn masks_of_version_2_keep_one_count_and_differ() {
    let (_folder, mut config) = set();
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
fn a_bad_recording_leaves_its_step_short_and_moves_nothing() {
    let (_folder, good) = set();
    let folder = tempfile::tempdir().expect("a folder");
    let mut recordings = recordings();
    recordings[33].truncate(60); // Its bytes have their hash, but are no recording.
    recordings[102].clear();
    write(folder.path(), &recordings);
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
fn a_step_of_a_lane_may_be_empty() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut recordings = recordings();
    for recording in &mut recordings[..200] {
        *recording = vec![0; 10];
    }
    write(folder.path(), &recordings);
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
fn others_recordings_without_lengths_go_by_count() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut recordings: Vec<Vec<u8>> = (0..60)
        .map(|row| wav(&pcm(row, 500 + 10 * row), RATE))
        .collect();
    recordings[7].truncate(50);
    let sounds: BinaryArray = recordings.iter().map(Some).collect();
    let rows = batch(vec![("sound", Arc::new(sounds) as ArrayRef)]);
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
fn what_is_too_short_is_left_out_and_not_bad() {
    let folder = tempfile::tempdir().expect("a folder");
    let is_short = |row: u64| row % 3 == 1;
    let recordings: Vec<Vec<u8>> = (0..60)
        .map(|row| {
            let n_frames = if is_short(row) { 100 } else { 500 };
            wav(&pcm(row as usize, n_frames), RATE)
        })
        .collect();
    let sounds: BinaryArray = recordings.iter().map(Some).collect();
    let rows = batch(vec![("audio", Arc::new(sounds) as ArrayRef)]);
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

    // Where all are, it is said why nothing comes.
    config.audio.as_mut().expect("audio").min_frames = 700;
    let mut pipeline = Pipeline::train(&config, &by_lanes(&config, 0, 1, 2)).expect("a pipeline");
    let error = pipeline.find_map(Result::err).expect("no sample");
    assert!(matches!(error, Error::NoGoodSample { .. }), "{error}");
    assert!(error.to_string().contains("minimum 700"), "{error}");
}

#[test]
fn evaluation_pads_whole_recordings_and_labels_them() {
    let (_folder, config) = set();
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
        for (wave, &length) in waveforms.chunks(longest).zip(lengths) {
            assert_eq!(
                length as usize,
                n_frames(row),
                "whole, however short or long"
            );
            assert_eq!(place_of(&wave[..length as usize], row), 0);
            assert!(wave[length as usize..].iter().all(|&value| value == 0.0));
            row += 1;
        }
        let labels: Vec<i64> = batch.samples.iter().map(|s| s.row as i64 % 3).collect();
        assert_eq!(batch.labels, labels);
        assert!(batch.masks.is_empty());
    }
    assert_eq!(row, N_ROWS);
}

#[test]
fn other_rates_are_resampled_and_planned_at_the_recipes() {
    let folder = tempfile::tempdir().expect("a folder");
    let recordings: Vec<Vec<u8>> = (0..80)
        .map(|row| wav(&pcm(row, 1000 + 20 * row), 2 * RATE))
        .collect();
    let lengths: Vec<i64> = (0..80).map(|row| 1000 + 20 * row).collect();
    let rows = audio_rows(&recordings, &lengths, 2 * RATE as i32);
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
fn lanes_are_not_joined_and_memory_is_kept() {
    let (_folder, mut config) = set();
    let error = Pipeline::train(&config, &Options::default()).expect_err("one part");
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
fn the_commands_know_recordings() {
    let (_folder, config) = set();
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

    let inspection = inspect(&config.train.to_string(), &config.columns, 2).expect("a set");
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
    assert_eq!(done.expect("a set").rows, N_ROWS as u64);
    assert!(problems.is_empty(), "{problems:?}");

    let time = std::time::Duration::from_millis(10);
    let report = bench::run(&config, &Options::default(), time).expect("a bench");
    assert!(report.samples_per_sec > 0.0);
}
