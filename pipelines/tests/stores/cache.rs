//! The cache: shared by processes that are killed, and full or damaged.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use understudy_pipelines::DataConfig;
use understudy_pipelines::config::CacheConfig;
use understudy_pipelines::shard::{Dataset, Kind};
use understudy_pipelines::store::{CacheOptions, StoreOptions};

use crate::datasets::{BUCKET, FOLDER};
use crate::fault_lab::{LONGEST_SILENCE, Lab, every, patient};
use crate::lab::alone::{alone, is_alone};
use crate::lab::fault::Fault;
use crate::lab::http::serve_folder;
use crate::support::{rows, write_dataset};

/// Variables of a child process that reads: URL of the dataset, and folder of the cache.
const DATASET: &str = "UNDERSTUDY_TEST_CACHED_DATASET";
const CACHE: &str = "UNDERSTUDY_TEST_CACHE";
const PROCESSES: usize = 3;
const KILLS: u64 = 20;
/// Less than the size of the dataset, so that entries are evicted.
const CACHE_BYTES: u64 = 256 << 10;

/// Reads all row groups of a dataset through the cache, and checks that each row is as written.
fn read_all(url: &str, cache: &Path) {
    let options = StoreOptions {
        cache: Some(CacheOptions {
            folder: cache.to_owned(),
            bytes: CACHE_BYTES,
        }),
        ..StoreOptions::default()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let dataset = Dataset::open_with(url, &[Kind::Image], &BTreeMap::new(), &options).await;
        let dataset = dataset.expect("a dataset");
        let mut n_rows = 0;
        for group in 0..dataset.shards[0].groups.len() {
            let rows = dataset.read_group(0, group).await.expect("a row group");
            for row in 0..rows.len() {
                rows.checked(row).expect("the row as written");
            }
            n_rows += rows.len();
        }
        assert_eq!(n_rows as u64, dataset.rows);
        let traffic = dataset.location.traffic();
        assert!(
            traffic.cache_misses > 0,
            "the dataset is larger than the cache"
        );
    });
}

/// Reads until the process is killed. Does nothing in other processes.
#[test]
fn reader_with_a_cache() {
    let Ok(url) = std::env::var(DATASET) else {
        return;
    };
    let cache = std::env::var_os(CACHE).expect("both are set");
    loop {
        read_all(&url, Path::new(&cache));
    }
}

#[test]
fn shared_cache_survives_kills_of_its_processes() {
    let folder = tempfile::tempdir().expect("a folder");
    let (dataset, cache) = (folder.path().join("set"), folder.path().join("cache"));
    write_dataset(&dataset, &rows(400), 4, 100);
    let url = format!("http://{}/train-00000.parquet", serve_folder(&dataset));
    let start = || -> Child {
        Command::new(std::env::current_exe().expect("a test knows its binary"))
            .args(["--exact", "cache::reader_with_a_cache"])
            .env(DATASET, &url)
            .env(CACHE, &cache)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("started")
    };
    let mut readers: Vec<Child> = (0..PROCESSES).map(|_| start()).collect();
    for kill in 0..KILLS {
        std::thread::sleep(Duration::from_millis(60 + 37 * kill % 100));
        let reader = &mut readers[kill as usize % PROCESSES];
        let ended = reader.try_wait().expect("its state");
        assert_eq!(ended, None, "a reader got wrong rows");
        reader.kill().expect("killed");
        reader.wait().expect("gone");
        *reader = start();
    }
    for mut reader in readers {
        assert_eq!(reader.try_wait().expect("its state"), None);
        reader.kill().expect("killed");
        reader.wait().expect("gone");
    }
    // The cache still works, and is no larger than its limit, apart from partial files.
    read_all(&url, &cache);
    let files = walkdir::WalkDir::new(&cache).into_iter().flatten();
    let entries = files.filter(|file| {
        file.path()
            .extension()
            .is_some_and(|e| e == "understudy-range")
    });
    let held: u64 = entries
        .filter_map(|file| Some(file.metadata().ok()?.len()))
        .sum();
    assert!(held <= CACHE_BYTES, "{held} bytes are held");
    assert!(
        held > CACHE_BYTES / 4,
        "{held} bytes: the cache is not used"
    );
}

#[test]
fn full_or_damaged_cache_does_not_change_batches() {
    alone(
        "cache::full_or_damaged_cache_does_not_change_batches",
        || {
            let Some(mut lab) = Lab::new() else {
                return;
            };
            let folder = tempfile::tempdir().expect("a folder");
            let cached = |folder: &Path| DataConfig {
                cache: Some(CacheConfig {
                    folder: folder.to_owned(),
                    size: "1GiB".to_owned(),
                }),
                ..patient(&format!("s3://{BUCKET}/{FOLDER}"))
            };
            let config = cached(folder.path());
            let n_reads = |lab: &mut Lab, what: &str| {
                let before = lab.proxy.counts().reads;
                let reading = lab.read_as(what, &config, LONGEST_SILENCE, |_, _| {});
                assert_eq!(reading.outcome, lab.dataset.expected, "{what}: {reading:?}");
                lab.proxy.counts().reads - before
            };
            let first = n_reads(&mut lab, "a cache, empty at first");
            let second = n_reads(&mut lab, "the same cache, full");
            assert!(
                second * 4 < first,
                "{second} reads after {first}: the cache is not used"
            );
            let n_damaged = damage(folder.path());
            assert!(n_damaged > 50, "{n_damaged} entries: this tests nothing");
            let third = n_reads(&mut lab, "one bit of each cache entry flipped");
            assert!(
                third * 2 > first,
                "{third} reads after {first}: damaged entries were used"
            );

            let other = tempfile::tempdir().expect("a folder");
            let config = cached(other.path());
            for flips in [Some((Fault::Flip, every(3, 1))), None] {
                lab.proxy.set_fault(flips);
                let what = "a cache filled while every third read has a bit flipped, then used";
                let reading = lab.read_as(what, &config, LONGEST_SILENCE, |_, _| {});
                assert_eq!(reading.outcome, lab.dataset.expected, "{reading:?}");
            }

            let small = tempfile::tempdir().expect("a folder");
            let mut mount = Command::new("mount");
            mount
                .args(["-t", "tmpfs", "-o", "size=200k", "tmpfs"])
                .arg(small.path());
            if !is_alone() || !mount.status().is_ok_and(|status| status.success()) {
                println!("note: cannot mount a small file system: a full disk is not tested");
                return;
            }
            let config = cached(small.path());
            let reading = lab.read_as("the cache's disk full", &config, LONGEST_SILENCE, |_, _| {});
            assert_eq!(reading.outcome, lab.dataset.expected, "{reading:?}");
            let is_warning = |line: &String| line.contains("space left");
            assert!(
                reading.warnings.iter().any(is_warning),
                "no warning: {reading:?}"
            );
        },
    );
}

/// Flips one bit in the middle of each file below a folder. Returns the number of files.
fn damage(folder: &Path) -> usize {
    let entries = walkdir::WalkDir::new(folder).into_iter();
    let files = entries
        .map(|entry| entry.expect("an entry"))
        .filter(|entry| {
            entry.file_type().is_file() && entry.metadata().is_ok_and(|metadata| metadata.len() > 0)
        });
    files
        .map(|file| {
            let mut bytes = std::fs::read(file.path()).expect("an entry");
            let middle = bytes.len() / 2;
            bytes[middle] ^= 4;
            std::fs::write(file.path(), bytes).expect("written");
        })
        .count()
}
