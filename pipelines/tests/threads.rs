//! Dropping a pipeline ends its threads. A process of its own: it counts the process's threads.

mod support;

use support::{config, options, rows, write_set};
use understudy_pipelines::pipeline::{Options, Pipeline};

#[test]
fn a_pipeline_that_is_dropped_leaves_no_thread() {
    let folder = tempfile::tempdir().expect("a folder");
    write_set(folder.path(), &rows(200), 10, 5);
    let config = config(folder.path());
    if n_threads().is_none() {
        eprintln!("skipped: this system does not list a process's threads");
        return;
    }
    // Before the first batch, in the middle, with full queues, after the end, after an error.
    for n_batches in [0, 1, 30] {
        for prefetch in [0, 6] {
            let options = Options { threads: 5, prefetch, ..options(0, 1) };
            let mut pipeline = Pipeline::train(&config, &options).expect("a pipeline");
            assert!(n_threads() > Some(5));
            assert_eq!(pipeline.by_ref().take(n_batches).filter(Result::is_ok).count(), n_batches);
            drop(pipeline);
            assert_eq!(n_threads(), Some(0), "after {n_batches} batches");
        }
    }
    let mut pass = Pipeline::evaluate(&config, &config.train, 32, &options(0, 1)).expect("a pass");
    assert_eq!(pass.by_ref().count(), 7);
    assert!(pass.next().is_none());
    assert_eq!(n_threads(), Some(0), "after the end of a pass, the pipeline still there");
}

/// This process's threads that belong to a pipeline.
fn n_threads() -> Option<usize> {
    let tasks = std::fs::read_dir("/proc/self/task").ok()?;
    let names = tasks.flatten().filter_map(|task| {
        // A thread may end between the listing and this.
        std::fs::read_to_string(task.path().join("comm")).ok()
    });
    Some(names.filter(|name| name.starts_with("shards-")).count())
}
