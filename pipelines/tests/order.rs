//! The sequence of batches depends on plan and seed alone.

mod support;

use std::collections::BTreeMap;

use support::{Row, assert_same, config, options, pixels, rows, train, write_dataset};
use understudy_pipelines::DataConfig;
use understudy_pipelines::batch::{Batch, Media};
use understudy_pipelines::pipeline::{Options, Pipeline};

const N_ROWS: usize = 203;

/// Rows 3, 50, 51 and 130 cannot be decoded; each kind of fault has its own test elsewhere.
const BAD: [usize; 4] = [3, 50, 51, 130];

fn dataset_with_bad_rows() -> (tempfile::TempDir, DataConfig) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut rows = rows(N_ROWS);
    for i in BAD {
        rows[i] = Row::new(format!("not an image {i}").into_bytes(), 0);
    }
    write_dataset(folder.path(), &rows, 7, 5);
    let config = config(folder.path());
    (folder, config)
}

#[test]
fn batches_do_not_depend_on_threads_and_prefetch() {
    let (_folder, config) = dataset_with_bad_rows();
    let expected = train(
        &config,
        &Options {
            threads: 1,
            prefetch: 0,
            ..options(0, 1)
        },
        60,
    );
    for (threads, prefetch) in [(1, 4), (2, 2), (5, 1), (5, 9)] {
        let options = Options {
            threads,
            prefetch,
            ..options(0, 1)
        };
        let what = format!("{threads} threads, prefetch {prefetch}");
        assert_same(&train(&config, &options, 60), &expected, &what);
    }
}

#[test]
fn batches_do_not_depend_on_memory() {
    let (_folder, mut config) = dataset_with_bad_rows();
    let expected = train(&config, &options(0, 1), 60);
    // Room for few samples in flight and hardly a row group ahead.
    config.memory = "400KB".into();
    assert_same(&train(&config, &options(0, 1), 60), &expected, "400 KB");
}

#[test]
fn batches_of_ranks_join_to_the_step() {
    let (_folder, config) = dataset_with_bad_rows();
    let expected = train(&config, &options(0, 1), 60);
    for world in [2, 4] {
        let ranks: Vec<Vec<Batch>> = (0..world)
            .map(|rank| train(&config, &options(rank, world), 60))
            .collect();
        for (step, whole) in expected.iter().enumerate() {
            let joined = join(&ranks.iter().map(|rank| &rank[step]).collect::<Vec<_>>());
            assert_same(
                &[joined],
                std::slice::from_ref(whole),
                &format!("{world} ranks"),
            );
        }
    }
}

#[test]
fn micro_batches_join_to_the_step() {
    let (_folder, config) = dataset_with_bad_rows();
    let whole = train(&config, &options(0, 1), 40);
    for n_micro_batches in [2, 4] {
        let options = Options {
            micro_batches_per_step: n_micro_batches,
            ..options(0, 1)
        };
        let micro_batches = train(&config, &options, 40 * n_micro_batches);
        for (step, expected) in whole.iter().enumerate() {
            let micro_batches =
                &micro_batches[step * n_micro_batches..(step + 1) * n_micro_batches];
            for (i, micro_batch) in micro_batches.iter().enumerate() {
                assert_eq!(
                    (
                        micro_batch.step,
                        micro_batch.micro_batch,
                        micro_batch.n_micro_batches
                    ),
                    (step as u64, i, n_micro_batches)
                );
                assert_eq!(micro_batch.n_samples, 8 / n_micro_batches);
            }
            let joined = join(&micro_batches.iter().collect::<Vec<_>>());
            assert_same(
                &[joined],
                std::slice::from_ref(expected),
                &format!("{n_micro_batches} micro-batches"),
            );
        }
    }
}

#[test]
fn a_resumed_run_equals_the_unbroken_run() {
    let (_folder, config) = dataset_with_bad_rows();
    let unbroken = train(&config, &options(0, 1), 90);
    for first_stop in [1, 13, 26, 55] {
        let bad_rows = resume_and_compare(&config, 0, first_stop, vec![], &unbroken);
        // The second resume starts from what the first one had met.
        let second_stop = first_stop + 17;
        let bad_rows = resume_and_compare(&config, first_stop, second_stop, bad_rows, &unbroken);
        resume_and_compare(&config, second_stop, 90, bad_rows, &unbroken);
    }
}

#[test]
fn a_run_resumes_with_other_numbers_of_ranks() {
    let (_folder, config) = dataset_with_bad_rows();
    let unbroken = train(&config, &options(0, 1), 60);
    // Two ranks stop at step 30: the checkpoint keeps the bad rows that either has met.
    let mut bad_rows = Vec::new();
    for rank in 0..2 {
        let mut pipeline = Pipeline::train(&config, &options(rank, 2)).expect("a pipeline");
        for _ in 0..30 {
            pipeline.next().expect("endless").expect("a batch");
        }
        bad_rows.extend(pipeline.bad_rows());
    }
    resume_and_compare(&config, 30, 60, bad_rows, &unbroken);
}

#[test]
fn every_good_sample_comes_once_in_an_epoch() {
    let (_folder, config) = dataset_with_bad_rows();
    let mut times = BTreeMap::new();
    // Lanes cross the end of an epoch at different steps: the first two epochs are over after 60.
    for batch in train(&config, &options(0, 1), 60) {
        for sample in batch.samples {
            *times.entry((sample.epoch, sample.row)).or_insert(0) += 1;
        }
    }
    for epoch in 0..2 {
        for row in 0..N_ROWS as u64 {
            let expected = usize::from(!BAD.contains(&(row as usize)));
            let found = times.get(&(epoch, row)).copied().unwrap_or(0);
            assert_eq!(found, expected, "row {row} in epoch {epoch}");
        }
    }
}

#[test]
fn a_finite_pass_gives_each_row_once_in_file_order() {
    let (_folder, config) = dataset_with_bad_rows();
    let good: Vec<u64> = (0..N_ROWS)
        .filter(|row| !BAD.contains(row))
        .map(|row| row as u64)
        .collect();
    let pass = |threads, rank, world| -> Vec<Batch> {
        let options = Options {
            threads,
            ..options(rank, world)
        };
        let pipeline =
            Pipeline::evaluate(&config, &config.train.to_string(), 16, &options).expect("a pass");
        pipeline.map(|batch| batch.expect("a batch")).collect()
    };
    let whole = pass(1, 0, 1);
    let found: Vec<u64> = whole
        .iter()
        .flat_map(|batch| &batch.samples)
        .map(|s| s.row)
        .collect();
    assert_eq!(found, good);
    for (i, batch) in whole.iter().enumerate() {
        assert_eq!(batch.step, i as u64);
        assert_eq!(
            batch.n_samples,
            if i < 12 { 16 } else { good.len() - 12 * 16 }
        );
        assert_eq!(pixels(batch).len(), batch.n_samples * 16 * 16 * 3);
        assert!(batch.masks.is_empty() && batch.n_masks == 0);
        let labels: Vec<i64> = batch.samples.iter().map(|s| s.row as i64 % 3).collect();
        assert_eq!(batch.labels, labels);
    }
    assert_same(&pass(5, 0, 1), &whole, "5 threads");
    let mut shared: Vec<u64> = (0..3)
        .flat_map(|rank| pass(2, rank, 3))
        .flat_map(|batch| batch.samples)
        .map(|sample| sample.row)
        .collect();
    shared.sort_unstable();
    assert_eq!(shared, good);
}

/// Runs steps `from..to` from the state of a checkpoint at `from`; returns the bad rows that one at `to`
/// would hold.
fn resume_and_compare(
    config: &DataConfig,
    from: usize,
    to: usize,
    bad_rows: Vec<u64>,
    unbroken: &[Batch],
) -> Vec<u64> {
    let options = Options {
        start_step: from as u64,
        bad_rows,
        ..options(0, 1)
    };
    let mut pipeline = Pipeline::train(config, &options).expect("a pipeline");
    let batches: Vec<Batch> = pipeline
        .by_ref()
        .take(to - from)
        .map(|batch| batch.expect("a batch"))
        .collect();
    assert_same(
        &batches,
        &unbroken[from..to],
        &format!("steps {from} to {to}"),
    );
    pipeline.bad_rows()
}

/// Joins the micro-batches of one step, in the order of their lanes.
fn join(micro_batches: &[&Batch]) -> Batch {
    let mut joined = Batch {
        micro_batch: 0,
        n_micro_batches: 1,
        ..micro_batches[0].clone()
    };
    for micro_batch in &micro_batches[1..] {
        assert_eq!(micro_batch.step, joined.step);
        joined.n_samples += micro_batch.n_samples;
        if let Media::Images { pixels: joined, .. } = &mut joined.media {
            joined.extend(pixels(micro_batch));
        }
        joined.masks.extend(&micro_batch.masks);
        joined.labels.extend(&micro_batch.labels);
        joined.samples.extend(&micro_batch.samples);
    }
    joined
}
