//! Crops or pads the waveforms of a batch to one length, and draws the masks over their positions.

use crate::batch::{Batch, Media};
use crate::config::{AudioConfig, MaskConfig};
use crate::pipeline::worker::{Sample, SampleMedia, SequenceCrop};
use crate::rng::SampleKey;

pub(super) fn empty() -> Media {
    Media::Audio {
        n_frames: 0,
        waveforms: Vec::new(),
        lengths: Vec::new(),
    }
}

/// In training, crops all waveforms to the shortest and draws masks over as many positions as it has.
/// In evaluation, without a mask, pads all waveforms to the longest.
pub(super) fn collate(
    batch: &mut Batch,
    held: &[Sample],
    config: &AudioConfig,
    mask: Option<&MaskConfig>,
    keys: &[SampleKey],
) {
    let crops: Vec<&SequenceCrop<f32>> = held
        .iter()
        .filter_map(|sample| match &sample.media {
            SampleMedia::Waveform(crop) => Some(crop),
            _ => None,
        })
        .collect();
    let each_length = crops.iter().map(|crop| crop.values.len());
    let n_frames = match mask {
        Some(_) => each_length.min(),
        None => each_length.max(),
    };
    let n_frames = n_frames.unwrap_or(0);
    let mut waveforms = Vec::with_capacity(crops.len() * n_frames);
    let mut lengths = Vec::with_capacity(crops.len());
    for (i, crop) in crops.iter().enumerate() {
        let values = crop.shorter(n_frames.min(crop.values.len()));
        waveforms.extend_from_slice(values);
        waveforms.resize((i + 1) * n_frames, 0.0);
        lengths.push(values.len() as u32);
    }
    batch.media = Media::Audio {
        n_frames,
        waveforms,
        lengths,
    };
    let Some(mask) = mask else {
        return;
    };
    batch.n_positions = config.n_positions(n_frames);
    let sample_masks = batch.n_masks * batch.n_positions;
    batch.masks = vec![0; crops.len() * sample_masks];
    if batch.masks.is_empty() {
        return;
    }
    for (masks, &key) in batch.masks.chunks_exact_mut(sample_masks).zip(keys) {
        mask.draw(key, masks);
    }
    mask.equalise(&mut batch.masks, batch.n_positions, keys);
}
