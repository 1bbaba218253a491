//! Waves of one length, and the masks over their positions.

use crate::batch::{Batch, Media};
use crate::config::{AudioConfig, MaskConfig};
use crate::pipeline::worker::{Sample, SampleMedia, Window};
use crate::rng::SampleKey;

pub(super) fn empty() -> Media {
    Media::Audio {
        n_frames: 0,
        waves: Vec::new(),
        lengths: Vec::new(),
    }
}

/// Training: all are cropped to the shortest, then masks are drawn over as many positions.
/// Evaluation, without a mask: all are padded to the longest.
pub(super) fn collate(
    batch: &mut Batch,
    held: &[Sample],
    config: &AudioConfig,
    mask: Option<&MaskConfig>,
    keys: &[SampleKey],
) {
    let windows: Vec<&Window<f32>> = held
        .iter()
        .filter_map(|sample| match &sample.media {
            SampleMedia::Wave(window) => Some(window),
            _ => None,
        })
        .collect();
    let each_length = windows.iter().map(|window| window.values.len());
    let n_frames = match mask {
        Some(_) => each_length.min(),
        None => each_length.max(),
    };
    let n_frames = n_frames.unwrap_or(0);
    let mut waves = Vec::with_capacity(windows.len() * n_frames);
    let mut lengths = Vec::with_capacity(windows.len());
    for (i, window) in windows.iter().enumerate() {
        let values = window.cut(n_frames.min(window.values.len()));
        waves.extend_from_slice(values);
        waves.resize((i + 1) * n_frames, 0.0);
        lengths.push(values.len() as u32);
    }
    batch.media = Media::Audio {
        n_frames,
        waves,
        lengths,
    };
    let Some(mask) = mask else {
        return;
    };
    batch.n_positions = config.n_positions(n_frames);
    let sample_masks = batch.n_masks * batch.n_positions;
    batch.masks = vec![0; windows.len() * sample_masks];
    if batch.masks.is_empty() {
        return;
    }
    for (masks, &key) in batch.masks.chunks_exact_mut(sample_masks).zip(keys) {
        mask.draw(key, masks);
    }
    mask.equalise(&mut batch.masks, batch.n_positions, keys);
}
