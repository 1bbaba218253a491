//! A mixture gives the same batches for any threads and ranks, from any step on.

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use support::datasets::{check_stream, token_rows, write_shard};
use support::mixtures::{
    BAD_IMAGES, BAD_UTTERANCES, N_IMAGES, N_UTTERANCES, audio, images, weighted,
};
use support::{Row, config, options, rows, train, write_dataset};
use understudy_pipelines::batch::Batch;
use understudy_pipelines::config::{MaskConfig, TextConfig, TrainSets};
use understudy_pipelines::mask::TokenSpans;
use understudy_pipelines::pipeline::{self, Options, Pipeline};
use understudy_pipelines::plan::Report;
use understudy_pipelines::{DataConfig, Error};

/// Counts how often each row came, by epoch.
fn times(batches: &[Batch]) -> BTreeMap<(u64, u64), u64> {
    let mut times = BTreeMap::new();
    for sample in batches.iter().flat_map(|batch| &batch.samples) {
        *times.entry((sample.epoch, sample.row)).or_default() += 1;
    }
    times
}

fn assert_whole_epochs(
    batches: &[Batch],
    set_rows: std::ops::Range<u64>,
    n_epochs: u64,
    out: &[u64],
) {
    let times = times(batches);
    assert!(times.values().all(|&n| n == 1), "a row came twice");
    for epoch in 0..n_epochs {
        for row in set_rows.clone() {
            let comes = times.contains_key(&(epoch, row));
            assert_eq!(comes, !out.contains(&row), "row {row} in epoch {epoch}");
        }
    }
}

#[test]
fn images_come_once_in_every_epoch_of_their_dataset() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = images(folder.path(), 4);
    // 60 steps of six samples of the first and two of the second: three epochs of 118, two of 48.
    let batches = check_stream(&config, 60);
    let [n_first, n_second] = N_IMAGES.map(|n| n as u64);
    assert_whole_epochs(&batches, 0..n_first, 2, &BAD_IMAGES);
    assert_whole_epochs(&batches, n_first..n_first + n_second, 2, &BAD_IMAGES);
    // Each step has its share: six and two, or one more or less.
    for step in batches.chunks(4) {
        let samples = step.iter().flat_map(|batch| &batch.samples);
        let n = samples.filter(|sample| sample.row < n_first).count();
        assert!((5..=7).contains(&n), "{n} of 8 are from the first dataset");
    }
    // Lanes may be joined, and little memory changes nothing.
    let mut config = config;
    config.memory = "800KB".into();
    let joined = train(&config, &options(0, 1), 60);
    let each = |batches: &[Batch]| -> Vec<_> {
        let samples = batches.iter().flat_map(|batch| &batch.samples);
        samples.copied().collect()
    };
    assert_eq!(each(&joined), each(&batches));
}

#[test]
fn audio_comes_once_in_every_epoch_of_its_dataset() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = audio(folder.path(), 4);
    let batches = check_stream(&config, 80);
    let n_first = N_UTTERANCES[0] as u64;
    let length = |row: u64| 300 + (row - if row < n_first { 0 } else { n_first }) * 733 % 2000;
    let n_all = n_first + N_UTTERANCES[1] as u64;
    let out: Vec<u64> = (0..n_all)
        .filter(|&row| length(row) < 400 || BAD_UTTERANCES.contains(&row))
        .collect();
    assert_whole_epochs(&batches, 0..n_first, 2, &out);
    assert_whole_epochs(&batches, n_first..n_all, 2, &out);
    let n_of_first = batches.iter().filter(|batch| {
        let is_first = |sample: &understudy_pipelines::batch::SampleId| sample.row < n_first;
        let n = batch
            .samples
            .iter()
            .filter(|sample| is_first(sample))
            .count();
        assert!(
            n == 0 || n == batch.n_samples,
            "a batch by cost is from one dataset"
        );
        n > 0
    });
    let n_of_first = n_of_first.count();
    assert!((159..=161).contains(&n_of_first), "{n_of_first} of 320");
}

#[test]
fn the_quarantine_file_names_the_dataset_of_bad_rows() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = images(folder.path(), 4);
    let quarantine = folder.path().join("bad.jsonl");
    let options = Options {
        quarantine: Some(quarantine.clone()),
        ..options(0, 1)
    };
    let mut pipeline = Pipeline::train(&config, &options).expect("a pipeline");
    for _ in 0..40 {
        pipeline.next().expect("endless").expect("a batch");
    }
    assert_eq!(pipeline.bad_rows(), BAD_IMAGES);
    assert_eq!(pipeline.rows(), 170);
    let text = std::fs::read_to_string(&quarantine).expect("a file");
    let mut found: Vec<(String, String, u64)> = text
        .lines()
        .map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
            let text = |key: &str| line[key].as_str().expect("text").to_owned();
            (
                text("set"),
                text("shard"),
                line["row"].as_u64().expect("a number"),
            )
        })
        .collect();
    found.sort();
    let place = |set: &str, shard: &str, row| {
        let set = folder.path().join(set).display().to_string();
        (set, shard.to_owned(), row)
    };
    assert_eq!(
        found,
        [
            place("a", "train-00000.parquet", 3),
            place("a", "train-00002.parquet", 7),
            place("b", "train-00000.parquet", 5),
            place("b", "train-00001.parquet", 5),
        ]
    );
}

/// A dataset in which every row is bad stops a mixture, by count and by cost, even if all rows may be
/// bad.
#[test]
fn a_dataset_of_bad_rows_alone_ends_with_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut by_count = images(folder.path(), 4);
    let rows: Vec<Row> = (0..12).map(|i| Row::new(vec![i; 100], 0)).collect();
    write_dataset(&folder.path().join("bad"), &rows, 4, 3);
    by_count.train = with(&by_count.train, folder.path());
    let audio_folder = tempfile::tempdir().expect("a folder");
    let mut by_cost = audio(audio_folder.path(), 4);
    let noise = support::datasets::audio_rows(&vec![b"noise".to_vec(); 12], &[500; 12], 8000);
    write_shard(&audio_folder.path().join("bad/0.parquet"), &noise, 4);
    by_cost.train = with(&by_cost.train, audio_folder.path());
    let alone = DataConfig {
        train: audio_folder.path().join("bad").display().to_string().into(),
        ..by_cost.clone()
    };
    for mut config in [by_count, by_cost, alone] {
        config.max_bad_fraction = 1.0;
        let options = support::datasets::by_lanes(&config, 0, 1, 2);
        let pipeline = Pipeline::train(&config, &options).expect("a pipeline");
        let error = pipeline
            .take(10_000)
            .find_map(Result::err)
            .expect("an error");
        assert!(matches!(error, Error::NoGoodSample { .. }), "{error}");
    }
}

/// Adds the dataset `bad` in `folder` to a mixture.
fn with(train: &TrainSets, folder: &Path) -> TrainSets {
    let mut sets: Vec<(String, f64)> = train
        .urls()
        .iter()
        .map(|url| ((*url).to_owned(), 1.0))
        .collect();
    sets.push((folder.join("bad").display().to_string(), 1.0));
    weighted(&sets)
}

#[test]
fn the_fingerprint_covers_datasets_and_shares() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = images(folder.path(), 4);
    let [a, b] = ["a", "b"].map(|name| folder.path().join(name).display().to_string());
    let fingerprint = |train: TrainSets| {
        let config = DataConfig {
            train,
            ..config.clone()
        };
        pipeline::plan(&config).expect("a plan").fingerprint
    };
    let mix = |sets: &[(&String, f64)]| {
        let sets: Vec<_> = sets
            .iter()
            .map(|&(set, weight)| (set.clone(), weight))
            .collect();
        fingerprint(weighted(&sets))
    };
    let first = fingerprint(config.train.clone());
    let others = [
        fingerprint(a.clone().into()),
        mix(&[(&a, 3.0)]),
        mix(&[(&a, 3.0), (&b, 2.0)]),
        mix(&[(&b, 1.0), (&a, 3.0)]),
        mix(&[(&a, 3.0), (&a, 1.0)]),
    ];
    for (i, other) in others.iter().enumerate() {
        assert_ne!(*other, first, "{i}");
    }
    // A copy elsewhere has the same.
    let copy = tempfile::tempdir().expect("a folder");
    let copied = images(copy.path(), 4);
    assert_eq!(fingerprint(copied.train), first);
}

#[test]
fn datasets_that_do_not_mix_are_rejected_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = |name: &str| folder.path().join(name).display().to_string();
    let texts: Vec<Vec<u32>> = (0..40).map(|row| vec![5 + row % 7; 12]).collect();
    for (name, block) in [("small", 16), ("large", 32)] {
        let rows = token_rows(&texts, block, 2);
        write_shard(&folder.path().join(name).join("0.parquet"), &rows, 5);
    }
    write_dataset(&folder.path().join("images"), &rows(20), 5, 2);
    let refused = |others: [&str; 2]| {
        let config = DataConfig {
            image: None,
            text: Some(TextConfig {
                max_tokens: 32,
                tokenizer: None,
            }),
            mask: MaskConfig::TokenSpans(TokenSpans {
                prob: 0.35,
                length: 4,
            }),
            train: weighted(&others.map(|name| (place(name), 1.0))),
            ..config(folder.path())
        };
        let error = pipeline::plan(&config).map(|_| ()).expect_err("no mix");
        error.to_string()
    };
    let error = refused(["small", "large"]);
    assert!(
        error.contains(&place("large")) && error.contains("blocks"),
        "{error}"
    );
    let error = refused(["small", "images"]);
    assert!(error.contains(&place("images")), "{error}");
}

#[test]
fn the_report_describes_each_dataset_and_the_memory_of_ranks() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = images(folder.path(), 4);
    let planned = pipeline::plan(&config).expect("a plan");
    let report = Report::new(&planned.mixture, &planned.plan, planned.memory).expect("a report");
    let [a, b] = &report.datasets[..] else {
        panic!("{report}");
    };
    assert!((a.share - 0.75).abs() < 1e-9 && (b.share - 0.25).abs() < 1e-9);
    assert!((a.steps_per_epoch - 120.0 / 6.0).abs() < 1e-6);
    assert!((b.steps_per_epoch - 50.0 / 2.0).abs() < 1e-6);
    assert_eq!(report.cache_bytes(), a.bytes + b.bytes);
    let text = report.to_string();
    assert!(
        text.contains("75.00 %") && text.contains("share of samples"),
        "{text}"
    );
    for (rank, world) in report.memory.iter().zip([1, 2, 4]) {
        assert_eq!(rank.world, world);
        let with = |bytes: u64| {
            let mut config = config.clone();
            config.memory = format!("{bytes}B");
            let options = Options {
                threads: Options::default().threads,
                ..options(0, world)
            };
            Pipeline::train(&config, &options).map(|_| ())
        };
        with(rank.least_bytes).expect("enough to start");
        let error = with(rank.least_bytes - 1).expect_err("too little");
        assert!(matches!(error, Error::Budget { .. }), "{error}");
    }
}
