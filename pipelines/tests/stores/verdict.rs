//! The verdict, in experiments with a known answer.

use std::path::Path;
use std::time::Duration;

use understudy_pipelines::DataConfig;
use understudy_pipelines::pipeline::{Options, Pipeline};

use crate::lab::fault::{Fault, When};
use crate::lab::http::serve_folder;
use crate::lab::proxy::{Line, Proxy};
use crate::support::{Row, config, jpeg, rows, write_dataset};

/// Reads `n` batches with a pause of `thinks` after each, and returns the verdict.
fn verdict(config: &DataConfig, n: usize, thinks: Duration) -> String {
    let options = Options {
        threads: 1,
        ..Options::default()
    };
    let mut pipeline = Pipeline::train(config, &options).expect("a pipeline");
    // The start is left out, because all of it is waiting.
    pipeline.next().expect("endless").expect("a batch");
    let start = pipeline.stats();
    for _ in 0..n {
        pipeline.next().expect("endless").expect("a batch");
        std::thread::sleep(thinks);
    }
    let verdict = pipeline.stats().since(&start).verdict();
    println!("{verdict}");
    verdict
}

/// Returns a config for a dataset on a web server behind a proxy, with a small window.
fn behind(proxy: &Proxy) -> DataConfig {
    DataConfig {
        train: format!("http://{}/train-00000.parquet", proxy.address).into(),
        window_chunks: 1,
        lanes: 1,
        ..config(Path::new(""))
    }
}

#[test]
fn verdict_names_a_throttled_store() {
    let folder = tempfile::tempdir().expect("a folder");
    write_dataset(folder.path(), &rows(256), 8, 100);
    let target = serve_folder(folder.path());
    let proxy = Proxy::start("127.0.0.1:0", target).expect("a port");
    proxy.set_line(Line {
        bytes_per_sec: Some(60_000),
        ..Line::default()
    });
    let slow = verdict(&behind(&proxy), 40, Duration::ZERO);
    assert!(slow.starts_with("storage-bound"), "{slow}");
    assert!(slow.contains("the store gives 0."), "{slow}");

    proxy.set_line(Line::default());
    let every = When::Every {
        every: 2,
        burst: 1,
        from: 1,
    };
    proxy.set_fault(Some((Fault::SlowDown, every)));
    let refusing = verdict(&behind(&proxy), 40, Duration::ZERO);
    assert!(refusing.starts_with("storage-bound"), "{refusing}");
    assert!(refusing.contains("the store refuses"), "{refusing}");
}

#[test]
fn verdict_names_decoding_of_large_images() {
    let folder = tempfile::tempdir().expect("a folder");
    let large: Vec<Row> = (0..16)
        .map(|i| Row::new(jpeg(i, 1800, 1200), i64::from(i) % 3))
        .collect();
    write_dataset(folder.path(), &large, 4, 100);
    let config = DataConfig {
        memory: "512MiB".into(),
        ..config(folder.path())
    };
    let found = verdict(&config, 6, Duration::ZERO);
    // Which of the two depends on how this was compiled.
    let is_work = found.starts_with("decode-bound") || found.starts_with("transform-bound");
    assert!(is_work && found.contains("storage could feed"), "{found}");
}

#[test]
fn verdict_names_a_slow_consumer() {
    let folder = tempfile::tempdir().expect("a folder");
    write_dataset(folder.path(), &rows(64), 8, 100);
    let found = verdict(&config(folder.path()), 20, Duration::from_millis(200));
    assert!(found.starts_with("trainer-bound"), "{found}");
}
