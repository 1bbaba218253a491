//! Threads of a pipeline: they end, and their panics become errors.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, RecordBatch};
use parquet::arrow::ArrowWriter;

use super::worker::{RowMetadata, Sample, SampleMedia};
use super::*;
use crate::config::{Filter, ImageConfig, Limits, MaskConfig};
use crate::mask::InverseBlock;

/// Writes forty rows of four bytes in row groups of five; returns a config with 4 samples a step.
fn dataset(folder: &Path) -> DataConfig {
    let rows: BinaryArray = (0..40_u32).map(|row| Some(row.to_le_bytes())).collect();
    let batch = RecordBatch::try_from_iter([("image", Arc::new(rows) as ArrayRef)]).expect("rows");
    let file = std::fs::File::create(folder.join("a.parquet")).expect("a file");
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).expect("a writer");
    for group in 0..8 {
        writer.write(&batch.slice(group * 5, 5)).expect("rows");
        writer.flush().expect("a row group");
    }
    writer.close().expect("a footer");
    DataConfig {
        train: folder.display().to_string().into(),
        val: None,
        columns: BTreeMap::new(),
        seed: 1,
        batch: Some(4),
        batch_seconds: None,
        batch_tokens: None,
        lanes: 2,
        window_chunks: 2,
        memory: "16MiB".into(),
        retry_for: "15min".to_owned(),
        cache: None,
        max_bad_fraction: 0.0,
        limits: Limits::default(),
        image: Some(ImageConfig {
            size: 2,
            crop_scale: [0.5, 1.0],
            crop_ratio: [0.75, 1.5],
            filter: Filter::Bilinear,
            flip_prob: 0.0,
            color_jitter: 0.0,
            eval_resize: 2,
            mean: [0.5; 3],
            std: [0.5; 3],
        }),
        audio: None,
        text: None,
        mask: MaskConfig::InverseBlock(InverseBlock {
            grid: 2,
            n_masks: 1,
            mask_prob: 0.5,
            mask_prob_adjust: 0.0,
            block: 1,
        }),
    }
}

fn blank() -> Outcome {
    Outcome::Good(Sample {
        media: SampleMedia::Pixels(vec![0; 12]),
        masks: vec![0; 4],
        metadata: RowMetadata::None,
    })
}

fn options(threads: usize) -> Options {
    Options {
        threads,
        ..Options::default()
    }
}

#[test]
fn panic_in_the_pool_becomes_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = dataset(folder.path());
    for threads in [1, 3] {
        let panics = |_: &Worker, task: &Task| {
            assert!(task.slot.epoch < 2, "row {} is too much", task.slot.row);
            blank()
        };
        let mut pipeline =
            Pipeline::train_with(&config, &options(threads), panics).expect("a dataset");
        let error = pipeline.find_map(Result::err).expect("an error");
        match &error {
            Error::Panic {
                stage: "decode",
                message,
            } => assert!(message.ends_with("too much")),
            other => panic!("{other}"),
        }
        assert!(pipeline.next().is_none());
    }
}

#[test]
fn panic_of_the_scheduler_becomes_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = dataset(folder.path());
    // The pool answers for a row that was never dispatched: only a defect of the pipeline does that.
    let pipeline = Pipeline::train_with(&config, &options(1), |_, _| blank()).expect("a dataset");
    let events = pipeline.events.clone();
    let stray = Event::Sample {
        stream_idx: 9,
        number: 0,
        outcome: blank(),
    };
    events.send(stray).expect("the scheduler listens");
    let error = pipeline
        .take(10_000)
        .find_map(Result::err)
        .expect("an error");
    assert!(
        matches!(
            error,
            Error::Panic {
                stage: "scheduler",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn dropping_a_pipeline_ends_all_its_threads() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = dataset(folder.path());
    for threads in [1, 5] {
        for n_batches in [0, 1, 30] {
            let pool = Pipeline::train_with(&config, &options(threads), |_, _| blank());
            let mut pipeline = pool.expect("a dataset");
            for batch in pipeline.by_ref().take(n_batches) {
                batch.expect("a batch");
            }
            // Every thread of every kind holds the recorder for as long as it lives.
            let recorder = Arc::downgrade(&pipeline.recorder);
            drop(pipeline);
            assert_eq!(
                recorder.strong_count(),
                0,
                "{threads} threads, {n_batches} batches"
            );
        }
    }
}

#[test]
fn evaluation_pass_ends_its_threads() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = dataset(folder.path());
    config.max_bad_fraction = 1.0;
    let url = config.train.to_string();
    // No row is an image: the pass ends with the last one.
    let mut pass = Pipeline::evaluate(&config, &url, 8, &options(2)).expect("a dataset");
    let error = pass.next().expect("an answer").expect_err("no good row");
    assert!(matches!(error, Error::NoGoodSample { .. }), "{error}");
    assert!(pass.next().is_none());
    assert_eq!(Arc::strong_count(&pass.recorder), 1);
}
