//! Errors of batches and samples that do not fit `memory`, and of settings that cannot work.

mod support;

use support::{Row, config, jpeg, options, rows, write_dataset};
use understudy_pipelines::pipeline::{Options, Pipeline, plan};
use understudy_pipelines::{DataConfig, Error};

fn small_dataset() -> (tempfile::TempDir, DataConfig) {
    let folder = tempfile::tempdir().expect("a folder");
    write_dataset(folder.path(), &rows(60), 10, 3);
    let config = config(folder.path());
    (folder, config)
}

#[test]
fn rejects_a_batch_that_does_not_fit_memory() {
    let (_folder, mut config) = small_dataset();
    config.batch = Some(4096);
    config.memory = "10MB".into();
    let error = Pipeline::train(&config, &options(0, 1)).expect_err("4 × 3 MB of pixels");
    assert!(
        matches!(
            error,
            Error::Budget {
                memory_bytes: 10_000_000,
                ..
            }
        ),
        "{error}"
    );
    let text = error.to_string();
    assert!(
        text.contains("`memory`") && text.contains("`batch`"),
        "{text}"
    );
}

#[test]
fn rejects_windows_that_do_not_fit_memory() {
    let (_folder, mut config) = small_dataset();
    config.memory = "60KB".into();
    let text = Pipeline::train(&config, &options(0, 1))
        .expect_err("8 row groups")
        .to_string();
    assert!(
        text.contains("4 lanes") && text.contains("`window_chunks`"),
        "{text}"
    );
}

/// Writes 60 small images and one of 18 MB of pixels, and returns a config with this memory.
fn with_large_image(memory: &str) -> (tempfile::TempDir, DataConfig) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut rows = rows(60);
    rows[20] = Row::new(jpeg(1, 3000, 2000), 0);
    write_dataset(folder.path(), &rows, 10, 3);
    let mut config = config(folder.path());
    config.memory = memory.into();
    (folder, config)
}

#[test]
fn image_that_decodes_to_more_than_its_share_is_a_bad_sample() {
    let (folder, config) = with_large_image("24MiB");
    let quarantine = folder.path().join("bad.jsonl");
    for (threads, prefetch) in [(1, 1), (4, 2)] {
        let options = Options {
            threads,
            prefetch,
            quarantine: Some(quarantine.clone()),
            ..options(0, 1)
        };
        let mut pipeline = Pipeline::train(&config, &options).expect("a pipeline");
        for batch in pipeline.by_ref().take(20) {
            let batch = batch.expect("the run goes on");
            assert!(batch.samples.iter().all(|sample| sample.row != 20));
        }
        assert_eq!(pipeline.bad_rows(), [20]);
    }
    let line = std::fs::read_to_string(&quarantine).expect("a quarantine file");
    assert!(line.contains("raise `data.memory` to"), "{line}");
    let (_folder, config) = with_large_image("256MiB");
    let mut pipeline = Pipeline::train(&config, &options(0, 1)).expect("a pipeline");
    assert!(pipeline.by_ref().take(20).all(|batch| batch.is_ok()));
    assert_eq!(pipeline.bad_rows(), [0; 0]);
}

#[test]
fn plan_shows_the_largest_decode_and_counts_shared_row_groups_once() {
    let (_folder, mut config) = with_large_image("24MiB");
    let planned = plan(&config).expect("a plan");
    assert_eq!(planned.decode_limit_bytes, 6 << 20);
    let groups = planned.mixture.datasets()[0].shards.iter();
    let dataset: u64 = groups.flat_map(|s| &s.groups).map(|g| g.memory).sum();
    // Each lane has a window of all row groups.
    (config.batch, config.window_chunks) = (Some(16), 6);
    let [one, needs] = [1, 16].map(|lanes| {
        config.lanes = lanes;
        plan(&config).expect("a plan").memory[0].least_bytes
    });
    assert_eq!(one, needs);
    assert!(needs < 4 * dataset + (4 << 20), "{needs} for {dataset}");
    config.memory = format!("{needs}B");
    let options = Options {
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        ..Options::default()
    };
    let pipeline = Pipeline::train(&config, &options).expect("the memory of the plan is enough");
    assert!(pipeline.take(20).all(|batch| batch.is_ok()));
}

#[test]
fn all_problems_of_the_options_are_reported_at_once() {
    let (_folder, mut config) = small_dataset();
    config.window_chunks = 0;
    let options = Options {
        threads: 0,
        micro_batches_per_step: 3,
        ..options(3, 3)
    };
    let text = Pipeline::train(&config, &options)
        .expect_err("five mistakes")
        .to_string();
    for expected in [
        "window_chunks",
        "rank 3 of 3",
        "3 ranks",
        "3 micro-batches",
        "threads",
    ] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
}

#[test]
fn a_truncated_shard_is_an_error_not_a_hang() {
    let (folder, config) = small_dataset();
    let path = folder.path().join("train-00001.parquet");
    let shard = std::fs::read(&path).expect("a shard");
    std::fs::write(&path, &shard[..shard.len() / 2]).expect("written");
    let error = Pipeline::train(&config, &options(0, 1)).expect_err("no footer");
    assert!(error.to_string().contains("train-00001.parquet"), "{error}");
}
