//! Mixtures of two datasets, with bad rows in each.

use std::path::Path;

use understudy_pipelines::DataConfig;
use understudy_pipelines::config::{AudioConfig, MaskConfig, MixedSet, TrainSets};
use understudy_pipelines::mask::Spans;

use super::datasets::{audio_rows, pcm, wav, write_shard};
use super::{Row, config, jpeg, write_dataset};

/// Numbers of rows of the datasets of [`images`] and of [`audio`], and the bad rows over both datasets.
pub(crate) const N_IMAGES: [usize; 2] = [120, 50];
pub(crate) const BAD_IMAGES: [u64; 4] = [3, 77, 125, 160];
pub(crate) const N_UTTERANCES: [usize; 2] = [160, 90];
pub(crate) const BAD_UTTERANCES: [u64; 3] = [20, 161, 200];

const RATE_HZ: u32 = 8000;

pub(crate) fn weighted(sets: &[(String, f64)]) -> TrainSets {
    let sets = sets.iter().map(|(set, weight)| MixedSet {
        set: set.clone(),
        weight: Some(*weight),
        passes: None,
    });
    TrainSets::Mix(sets.collect())
}

/// Writes two datasets of images: `a` with three times the weight of `b`, in lanes of two samples a
/// step.
pub(crate) fn images(folder: &Path, lanes: usize) -> DataConfig {
    let mut row = 0;
    for (name, n_rows) in ["a", "b"].into_iter().zip(N_IMAGES) {
        let rows: Vec<Row> = (0..n_rows)
            .map(|i| {
                row += 1;
                if BAD_IMAGES.contains(&(row - 1)) {
                    Row::new(format!("not an image {row}").into_bytes(), 0)
                } else {
                    Row::new(jpeg(row as u32, 24 + i as u32 % 5, 20), i as i64 % 3)
                }
            })
            .collect();
        write_dataset(&folder.join(name), &rows, 7, 5);
    }
    let place = |name: &str| folder.join(name).display().to_string();
    DataConfig {
        train: weighted(&[(place("a"), 3.0), (place("b"), 1.0)]),
        lanes,
        batch: Some(2 * lanes),
        ..config(folder)
    }
}

/// Writes two datasets of audio with equal weights, in lanes of 4,000 frames a step. Some utterances
/// are too short.
pub(crate) fn audio(folder: &Path, lanes: usize) -> DataConfig {
    let mut row = 0;
    for (name, n_rows) in ["a", "b"].into_iter().zip(N_UTTERANCES) {
        let lengths: Vec<i64> = (0..n_rows).map(|i| 300 + i as i64 * 733 % 2000).collect();
        let utterances: Vec<Vec<u8>> = lengths
            .iter()
            .map(|&n_frames| {
                row += 1;
                if BAD_UTTERANCES.contains(&(row - 1)) {
                    b"not audio".to_vec()
                } else {
                    wav(&pcm(row as usize, n_frames as usize), RATE_HZ)
                }
            })
            .collect();
        let rows = audio_rows(&utterances, &lengths, RATE_HZ as i32);
        write_shard(&folder.join(name).join("0.parquet"), &rows, 4);
    }
    let place = |name: &str| folder.join(name).display().to_string();
    DataConfig {
        train: weighted(&[(place("a"), 1.0), (place("b"), 1.0)]),
        lanes,
        batch: None,
        batch_seconds: Some(lanes as f64 * 4000.0 / f64::from(RATE_HZ)),
        image: None,
        audio: Some(AudioConfig {
            sample_rate_hz: RATE_HZ,
            min_frames: 400,
            max_frames: 1600,
            normalize_eps: 1e-5,
            window_frames: 40,
            hop_frames: 32,
        }),
        mask: MaskConfig::Spans(Spans {
            prob: 0.65,
            length: 5,
        }),
        ..config(folder)
    }
}
