//! `memory` is kept: on real photos the process's peak, less what it had before the first read,
//! stays within the budget and 15 %.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use support::{Row, config, options, write_set};
use understudy_pipelines::config::MaskConfig;
use understudy_pipelines::pipeline::{Options, Pipeline};

/// Names the set to the process that reads it: the test starts itself a second time, as the peak
/// that Linux tells is that of a whole process.
const SET: &str = "UNDERSTUDY_TEST_MEMORY_SET";

const NAME: &str = "the_peak_stays_within_the_budget";

#[test]
fn the_peak_stays_within_the_budget() {
    if let Some(set) = std::env::var_os(SET) {
        read(Path::new(&set));
        return;
    }
    let data = std::env::var("UNDERSTUDY_DATA").unwrap_or("../../shared/data".into());
    let photos = photos(&Path::new(&data).join("images/flowers/train"));
    if photos.is_empty() {
        eprintln!("skipped: no photos in {data}/images/flowers/train; set UNDERSTUDY_DATA");
        return;
    }
    if memory_bytes("VmHWM:").is_none() {
        eprintln!("skipped: this system does not tell a process's peak memory");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let rows: Vec<Row> = photos
        .iter()
        .map(|path| Row::new(std::fs::read(path).expect("a photo"), 0))
        .collect();
    write_set(folder.path(), &rows, 16, 8);
    let itself = std::env::current_exe().expect("this test's path");
    let status = Command::new(itself)
        .args(["--exact", NAME, "--nocapture"])
        .env(SET, folder.path())
        .status()
        .expect("this test once more");
    assert!(status.success());
}

/// Reads most of an epoch of photos with 96 MiB, and with 4 threads that decode.
fn read(set: &Path) {
    let mut config = config(set);
    config.image.size = 224;
    config.image.eval_resize = 256;
    config.batch = 32;
    config.memory = "96MiB".into();
    config.mask = MaskConfig::InverseBlock {
        grid: 14,
        n_masks: 16,
        mask_prob: 0.8,
        mask_prob_adjust: 0.07,
        block: 3,
    };
    let options = Options {
        threads: 4,
        ..options(0, 1)
    };
    let before = memory_bytes("VmRSS:").expect("told before");
    let mut pipeline = Pipeline::train(&config, &options).expect("a pipeline");
    for _ in 0..10 {
        pipeline.next().expect("endless").expect("a batch");
    }
    let used = memory_bytes("VmHWM:").expect("told before") - before;
    assert!(used < (96 << 20) * 115 / 100, "{} MiB of 96", used >> 20);
    // Neither is it there for nothing.
    assert!(
        used > 24 << 20,
        "{} MiB of 96: what was measured?",
        used >> 20
    );
}

/// A line of Linux's `/proc/self/status`, in bytes.
fn memory_bytes(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
}

/// All files of the class folders.
fn photos(folder: &Path) -> Vec<PathBuf> {
    let files = walkdir::WalkDir::new(folder)
        .sort_by_file_name()
        .into_iter()
        .flatten();
    files
        .filter(|file| file.file_type().is_file())
        .map(walkdir::DirEntry::into_path)
        .collect()
}
