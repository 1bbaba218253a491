//! `memory` is kept: on real photos the process's peak, less what it had before, stays within the
//! budget and 15 %. A process of its own, as the peak is the process's.

mod support;

use std::path::{Path, PathBuf};

use support::{Row, config, options, write_set};
use understudy_pipelines::config::MaskConfig;
use understudy_pipelines::pipeline::{Options, Pipeline};

#[test]
fn the_peak_stays_within_the_budget() {
    let data = std::env::var("UNDERSTUDY_DATA").unwrap_or("../../shared/data".into());
    let photos = photos(&Path::new(&data).join("images/flowers/train"));
    let Some(before) = memory_bytes("VmRSS:") else {
        eprintln!("skipped: this system does not tell a process's peak memory");
        return;
    };
    if photos.is_empty() {
        eprintln!("skipped: no photos in {data}/images/flowers/train; set UNDERSTUDY_DATA");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    // Photos of a second set, four times: written by a child process, so that its memory is not ours.
    drop(before);
    write_photos(folder.path(), &photos);

    let mut config = config(folder.path());
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
    let before = memory_bytes("VmHWM:").expect("told above");
    let options = Options { threads: 4, ..options(0, 1) };
    let mut pipeline = Pipeline::train(&config, &options).expect("a pipeline");
    for _ in 0..60 {
        pipeline.next().expect("endless").expect("a batch");
    }
    let used = memory_bytes("VmHWM:").expect("told above") - before;
    assert!(used < 96 * 115 / 100 << 20, "{} MiB of 96", used >> 20);
}
