//! Errors of batches and samples that do not fit `memory`, and of settings that cannot work.

mod support;

use support::{Row, config, jpeg, options, rows, write_dataset};
use understudy_pipelines::pipeline::{Options, Pipeline};
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

#[test]
fn an_image_that_does_not_fit_memory_ends_the_run_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut rows = rows(60);
    rows[20] = Row::new(jpeg(1, 3000, 2000), 0);
    write_dataset(folder.path(), &rows, 10, 3);
    let mut config = config(folder.path());
    config.memory = "24MiB".into();
    let error = Pipeline::train(&config, &options(0, 1))
        .expect("a pipeline")
        .take(20)
        .find_map(Result::err)
        .expect("18 MB of pixels");
    assert!(matches!(error, Error::Budget { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("3000×2000 image in row 20 of train-00000.parquet"),
        "{text}"
    );
    assert!(text.contains("`limits.pixels`"), "{text}");
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
