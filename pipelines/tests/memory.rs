//! On real photos and speech, the peak memory of the process above its level before the first read
//! stays within `memory` plus 15 %.

#[path = "support/skip.rs"]
mod skip;
mod support;

use skip::skip;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::datasets::{audio_rows, write_shard};
use support::{Row, config, options, write_dataset};
use understudy_pipelines::DataConfig;
use understudy_pipelines::config::{AudioConfig, Limits, MaskConfig};
use understudy_pipelines::decode::read_audio_header;
use understudy_pipelines::mask::{Blocks, InverseBlock};
use understudy_pipelines::pipeline::{Options, Pipeline};

/// Names the dataset to the process that reads it: the test starts itself a second time, because the
/// peak that Linux reports is that of an entire process.
const DATASET: &str = "UNDERSTUDY_TEST_MEMORY_DATASET";

#[test]
fn peak_memory_of_images_stays_within_the_budget() {
    if let Some(dataset) = std::env::var_os(DATASET) {
        return read_photos(Path::new(&dataset));
    }
    let photos = match files("images/flowers/train") {
        Ok(photos) => photos,
        Err(reason) => return skip("data", &reason),
    };
    let folder = tempfile::tempdir().expect("a folder");
    let rows: Vec<Row> = photos
        .iter()
        .map(|path| Row::new(std::fs::read(path).expect("a photo"), 0))
        .collect();
    write_dataset(folder.path(), &rows, 16, 8);
    in_its_own_process(
        "peak_memory_of_images_stays_within_the_budget",
        folder.path(),
    );
}

#[test]
fn peak_memory_of_audio_stays_within_the_budget() {
    if let Some(dataset) = std::env::var_os(DATASET) {
        return read_speech(Path::new(&dataset));
    }
    let files = match files("speech/librispeech") {
        Ok(files) => files,
        Err(reason) => return skip("data", &reason),
    };
    let flac = files
        .iter()
        .filter(|path| path.extension().is_some_and(|end| end == "flac"));
    let audio: Vec<Vec<u8>> = flac
        .map(|path| std::fs::read(path).expect("an audio file"))
        .collect();
    let n_frames: Vec<i64> = audio
        .iter()
        .map(|bytes| {
            let header = read_audio_header(bytes, &Limits::default()).expect("an audio file");
            header.n_frames.expect("FLAC says its length") as i64
        })
        .collect();
    let folder = tempfile::tempdir().expect("a folder");
    let rows = audio_rows(&audio, &n_frames, 16_000);
    write_shard(&folder.path().join("a.parquet"), &rows, 8);
    in_its_own_process(
        "peak_memory_of_audio_stays_within_the_budget",
        folder.path(),
    );
}

/// Returns the files of a folder of the test data; or the reason why nothing can be measured.
fn files(folder: &str) -> Result<Vec<PathBuf>, String> {
    if memory_bytes("VmHWM:").is_none() {
        return Err("this system does not report a process's peak memory".into());
    }
    let data = std::env::var("UNDERSTUDY_DATA").unwrap_or("../../shared/data".into());
    let found = walkdir::WalkDir::new(Path::new(&data).join(folder))
        .sort_by_file_name()
        .into_iter()
        .flatten();
    let found: Vec<PathBuf> = found
        .filter(|file| file.file_type().is_file())
        .map(walkdir::DirEntry::into_path)
        .collect();
    if found.is_empty() {
        return Err(format!("nothing in {data}/{folder}; set UNDERSTUDY_DATA"));
    }
    Ok(found)
}

/// Runs a test once more, in a process that has done nothing else.
fn in_its_own_process(name: &str, dataset: &Path) {
    let itself = std::env::current_exe().expect("this test's path");
    let status = Command::new(itself)
        .args(["--exact", name, "--nocapture"])
        .env(DATASET, dataset)
        .status()
        .expect("this test once more");
    assert!(status.success());
}

/// Reads most of an epoch of photos with 96 MiB, and with 4 threads that decode.
fn read_photos(dataset: &Path) {
    let mut config = config(dataset);
    let image = config.image.as_mut().expect("a config for images");
    image.size = 224;
    image.eval_resize = 256;
    config.batch = Some(32);
    config.memory = "96MiB".into();
    config.mask = MaskConfig::InverseBlock(InverseBlock {
        grid: 14,
        n_masks: 16,
        mask_prob: 0.8,
        mask_prob_adjust: 0.07,
        block: 3,
    });
    let options = Options {
        threads: 4,
        ..options(0, 1)
    };
    check_peak(&config, &options, 96 << 20, 10);
}

/// Reads LibriSpeech with 64 MiB, two lanes of 40 s.
fn read_speech(dataset: &Path) {
    let mut config = config(dataset);
    (config.batch, config.batch_seconds) = (None, Some(80.0));
    config.lanes = 2;
    config.image = None;
    config.audio = Some(AudioConfig {
        sample_rate_hz: 16_000,
        min_frames: 32_000,
        max_frames: 320_000,
        normalize_eps: 1e-5,
        window_frames: 400,
        hop_frames: 320,
    });
    config.memory = "64MiB".into();
    config.mask = MaskConfig::Blocks(Blocks {
        n_masks: 8,
        prob: 0.5,
        prob_adjust: 0.05,
        block: 5,
    });
    let options = Options {
        micro_batches_per_step: 2,
        threads: 4,
        ..Options::default()
    };
    check_peak(&config, &options, 64 << 20, 40);
}

fn check_peak(config: &DataConfig, options: &Options, memory: u64, n_batches: usize) {
    let before = memory_bytes("VmRSS:").expect("reported before");
    let mut pipeline = Pipeline::train(config, options).expect("a pipeline");
    for _ in 0..n_batches {
        pipeline.next().expect("endless").expect("a batch");
    }
    let used = memory_bytes("VmHWM:").expect("reported before") - before;
    let mib = |bytes: u64| bytes >> 20;
    assert!(
        used < memory * 115 / 100,
        "{} MiB of {}",
        mib(used),
        mib(memory)
    );
    // Nor is it far below the budget: then nothing was measured.
    assert!(
        used > memory / 4,
        "{} MiB of {}: what was measured?",
        mib(used),
        mib(memory)
    );
}

/// Reads a line of Linux's `/proc/self/status`, in bytes.
fn memory_bytes(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
}
