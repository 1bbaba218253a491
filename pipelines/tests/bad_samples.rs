//! Bad samples: each is left out, written to the quarantine file and counted, never trained on.

mod support;

use std::path::Path;

use support::{Row, config, jpeg, options, pixels, rows, train, write_dataset};
use understudy_pipelines::Error;
use understudy_pipelines::batch::Batch;
use understudy_pipelines::pipeline::{Options, Pipeline};

const N_ROWS: usize = 60;

/// One epoch and a little more of 60 rows, 8 a step.
const N_STEPS: usize = 10;

fn rows_of(batches: &[Batch]) -> Vec<u64> {
    batches
        .iter()
        .flat_map(|batch| &batch.samples)
        .map(|sample| sample.row)
        .collect()
}

/// The lines of a quarantine file as (shard, row, reason), sorted.
fn quarantined(path: &Path) -> Vec<(String, u64, String)> {
    let text = std::fs::read_to_string(path).expect("a quarantine file");
    let entry = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let text = |key: &str| line[key].as_str().expect("text").to_owned();
        (
            text("shard"),
            line["row"].as_u64().expect("a number"),
            text("reason"),
        )
    };
    let mut entries: Vec<_> = text.lines().map(entry).collect();
    entries.sort();
    entries
}

#[test]
fn every_kind_of_bad_sample_is_left_out_and_quarantined() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut rows = rows(N_ROWS);
    rows[2].bytes = None;
    rows[5] = Row::new(Vec::new(), 0);
    rows[11] = Row::new(b"<html>404</html>".to_vec(), 0);
    let whole = jpeg(1, 40, 40);
    rows[23] = Row::new(whole[..whole.len() / 2].to_vec(), 0);
    rows[29] = Row::new(jpeg(2, 300, 200), 0);
    rows[41].xxh3 = Some(12345);
    write_dataset(folder.path(), &rows, 10, 3);

    let mut config = config(folder.path());
    config.limits.pixels = 50_000;
    let quarantine = folder.path().join("out/bad.jsonl");
    let options = Options {
        quarantine: Some(quarantine.clone()),
        ..options(0, 1)
    };
    let mut pipeline = Pipeline::train(&config, &options).expect("a pipeline");
    let batches: Vec<Batch> = pipeline
        .by_ref()
        .take(N_STEPS)
        .map(|batch| batch.expect("a batch"))
        .collect();

    let bad = [2, 5, 11, 23, 29, 41];
    assert!(batches.iter().all(|batch| batch.n_samples == 8));
    assert!(rows_of(&batches).iter().all(|row| !bad.contains(row)));
    assert_eq!(pipeline.bad_rows(), bad);
    let entries = quarantined(&quarantine);
    let places: Vec<(&str, u64)> = entries
        .iter()
        .map(|(s, row, _)| (s.as_str(), *row))
        .collect();
    let (first, second) = ("train-00000.parquet", "train-00001.parquet");
    assert_eq!(
        places,
        [
            (first, 2),
            (first, 5),
            (first, 11),
            (first, 23),
            (first, 29),
            (second, 11)
        ]
    );
    for ((_, row, reason), said) in
        entries
            .iter()
            .zip(["no bytes", "no bytes", "", "", "pixels", "hash mismatch"])
    {
        assert!(reason.contains(said), "row {row}: {reason}");
    }
    let stats = pipeline.stats();
    assert_eq!(stats.bad_samples, 6);
    assert!(stats.stages[1].failures >= 6, "{stats:?}");
    assert!(stats.samples >= 8 * N_STEPS as u64);
}

#[test]
fn flipped_bit_costs_one_sample() {
    let folder = tempfile::tempdir().expect("a folder");
    let rows = rows(N_ROWS);
    write_dataset(folder.path(), &rows, 10, 6);
    let config = config(folder.path());
    let whole = train(&config, &options(0, 1), N_STEPS);

    let path = folder.path().join("train-00000.parquet");
    let mut shard = std::fs::read(&path).expect("a shard");
    let bytes = rows[33].bytes.as_ref().expect("an image");
    let start = shard
        .windows(bytes.len())
        .position(|at| at == bytes)
        .expect("stored as it came");
    shard[start + bytes.len() / 2] ^= 4;
    std::fs::write(&path, shard).expect("written");

    let mut pipeline = Pipeline::train(&config, &options(0, 1)).expect("a pipeline");
    let found: Vec<Batch> = pipeline
        .by_ref()
        .take(N_STEPS)
        .map(|batch| batch.expect("a batch"))
        .collect();
    assert_eq!(pipeline.bad_rows(), [33]);
    // Every other sample of the first epoch is there, with the bytes that it had.
    let side = 16 * 16 * 3;
    let samples = |batches: &[Batch]| -> std::collections::BTreeMap<_, Vec<u8>> {
        let each = |batch: &Batch| {
            let images = pixels(batch).chunks(side).map(<[u8]>::to_vec);
            batch
                .samples
                .iter()
                .copied()
                .zip(images)
                .collect::<Vec<_>>()
        };
        batches.iter().flat_map(each).collect()
    };
    let (found, whole) = (samples(&found), samples(&whole));
    let first_epoch = |id: &understudy_pipelines::batch::SampleId| id.epoch == 0;
    assert_eq!(
        found.keys().filter(|id| first_epoch(id)).count(),
        N_ROWS - 1
    );
    for (id, image) in &found {
        assert!(id.row != 33);
        assert!(
            whole.get(id).is_none_or(|expected| expected == image),
            "{id:?}"
        );
    }
}

#[test]
fn wrong_hash_is_bad_only_after_a_second_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut rows = rows(20);
    write_dataset(&folder.path().join("good"), &rows, 20, 1);
    rows[4].xxh3 = Some(1);
    rows[7].xxh3 = Some(2);
    write_dataset(&folder.path().join("bad"), &rows, 20, 1);
    // One row group: it is read once, and once more for both wrong hashes.
    for (name, n_reads, n_rows) in [("good", 1, 20), ("bad", 2, 18)] {
        let config = config(&folder.path().join(name));
        let mut pass = Pipeline::evaluate(&config, &config.train.to_string(), 10, &options(0, 1))
            .expect("a dataset");
        let n_samples: usize = pass
            .by_ref()
            .map(|batch| batch.expect("a batch").n_samples)
            .sum();
        assert_eq!(n_samples, n_rows);
        assert_eq!(pass.stats().stages[0].count, n_reads, "{name}");
    }
}

#[test]
fn too_many_bad_samples_stop_the_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut rows = rows(N_ROWS);
    for row in &mut rows[10..30] {
        *row = Row::new(b"not an image".to_vec(), 0);
    }
    write_dataset(folder.path(), &rows, 10, 3);
    let mut config = config(folder.path());
    // 1 % of the first 1,000 samples may be bad, and ten whatever the fraction: the eleventh stops it.
    for fraction in [0.01, 0.0001] {
        config.max_bad_fraction = fraction;
        let error = Pipeline::train(&config, &options(0, 1))
            .expect("a pipeline")
            .take(1000)
            .find_map(Result::err)
            .expect("an error");
        match &error {
            Error::TooManyBadSamples {
                failed: 11, last, ..
            } => {
                assert!(
                    last.contains("train-0000") && last.contains("unrecognized image format"),
                    "{last}"
                );
            }
            other => panic!("{other}"),
        }
    }
    // With 0 the first one does.
    config.max_bad_fraction = 0.0;
    let mut pipeline = Pipeline::train(&config, &options(0, 1)).expect("a pipeline");
    let error = pipeline.find_map(Result::err).expect("an error");
    assert!(
        matches!(error, Error::TooManyBadSamples { failed: 1, .. }),
        "{error}"
    );
    assert!(pipeline.next().is_none(), "nothing comes after an error");
}

#[test]
fn dataset_of_bad_rows_ends_with_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let rows: Vec<Row> = (0..12).map(|i| Row::new(vec![i; 100], 0)).collect();
    write_dataset(folder.path(), &rows, 4, 3);
    let mut config = config(folder.path());
    config.max_bad_fraction = 1.0;
    let mut pipeline = Pipeline::train(&config, &options(0, 1)).expect("a pipeline");
    let error = pipeline
        .next()
        .expect("an answer")
        .expect_err("no sample is good");
    assert!(matches!(error, Error::NoGoodSample { .. }), "{error}");
}

#[test]
fn null_label_is_a_bad_sample_in_evaluation_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut rows = rows(20);
    rows[6].label = None;
    write_dataset(folder.path(), &rows, 10, 2);
    let config = config(folder.path());
    let quarantine = folder.path().join("bad.jsonl");
    let options = Options {
        quarantine: Some(quarantine.clone()),
        ..options(0, 1)
    };
    let pass = Pipeline::evaluate(&config, &config.train.to_string(), 8, &options).expect("a pass");
    let batches: Vec<Batch> = pass.map(|batch| batch.expect("a batch")).collect();
    assert_eq!(rows_of(&batches).len(), 19);
    assert!(quarantined(&quarantine)[0].2.starts_with("label"));
    // Pretraining does not read labels.
    assert!(rows_of(&train(&config, &options, 3)).contains(&6));
}
