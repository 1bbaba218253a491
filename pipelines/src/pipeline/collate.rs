//! Collates samples, in the scheduler's order, into batches.

mod audio;
mod text;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::sample_kind::SampleKind;
use super::worker::{RowMetadata, Sample, SampleMedia};
use crate::batch::{Batch, Media, SampleId};
use crate::config::{MaskConfig, StepSize};
use crate::rng::SampleKey;
use crate::stats::Recorder;

/// The shape of the batches, and the number of the next one.
pub(crate) struct Collator {
    pub(crate) kind: Arc<SampleKind>,
    /// `None` in an evaluation pass.
    pub(crate) mask: Option<MaskConfig>,
    pub(crate) seed: u64,
    /// One lane's share of one step.
    pub(crate) lane_share: StepSize,
    /// Most samples that a lane's share can have.
    pub(crate) max_lane_samples: usize,
    pub(crate) lanes_per_micro_batch: usize,
    pub(crate) n_micro_batches: usize,
    pub(crate) next_step: u64,
    pub(crate) next_micro_batch: usize,
}

/// A sample's place in a step: the lane of this rank, and the number of samples of the lane's share
/// before it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) lane_idx: usize,
    pub(crate) step: u64,
    pub(crate) n_before: usize,
}

/// A batch that is being filled.
pub(crate) struct Filling {
    batch: Batch,
    /// Samples whose final length depends on samples that have not arrived.
    held: Vec<Sample>,
    lane_share: StepSize,
    n_lanes: usize,
    first_lane: usize,
    time: Duration,
}

impl Collator {
    /// Returns the bytes of one sample that waits for its place.
    pub(crate) fn sample_bytes(&self) -> usize {
        self.kind.sample_bytes(self.mask.as_ref())
    }

    /// Returns the most bytes that one micro-batch takes.
    pub(crate) fn micro_batch_bytes(&self) -> usize {
        let n_samples = self.micro_batch_samples();
        let ids = n_samples * (size_of::<SampleId>() + size_of::<i64>());
        let kind = &self.kind;
        ids + kind.batch_bytes(n_samples, self.lane_share, self.mask.as_ref())
    }

    /// Returns the number of samples that must be held at once to make a micro-batch.
    pub(crate) fn least_samples(&self) -> usize {
        match &*self.kind {
            SampleKind::Image(_) => 1,
            _ => self.micro_batch_samples(),
        }
    }

    fn micro_batch_samples(&self) -> usize {
        self.lanes_per_micro_batch * self.max_lane_samples
    }

    /// Starts the next micro-batch of this step, or the first one of the next step.
    pub(crate) fn begin(&mut self) -> Filling {
        let n_most = self.micro_batch_samples();
        let mask = self.mask.as_ref();
        // Images are copied into the batch one by one, all else when the batch's shape is known.
        let (media, n_positions) = match &*self.kind {
            SampleKind::Image(image) => {
                let size = image.size as usize;
                let pixels = Vec::with_capacity(n_most * size * size * 3);
                (
                    Media::Images { size, pixels },
                    mask.and_then(MaskConfig::n_patches).unwrap_or(0),
                )
            }
            SampleKind::Audio { .. } => (audio::empty(), 0),
            SampleKind::Text { .. } | SampleKind::Tokens(_) => (text::empty(), 0),
        };
        let n_masks = mask.map_or(0, MaskConfig::n_masks);
        let batch = Batch {
            step: self.next_step,
            micro_batch: self.next_micro_batch,
            n_micro_batches: self.n_micro_batches,
            n_samples: 0,
            media,
            n_masks,
            n_positions,
            masks: Vec::with_capacity(n_most * n_masks * n_positions),
            labels: Vec::new(),
            keys: Vec::new(),
            samples: Vec::new(),
        };
        let first_lane = self.next_micro_batch * self.lanes_per_micro_batch;
        self.next_micro_batch += 1;
        if self.next_micro_batch == self.n_micro_batches {
            self.next_micro_batch = 0;
            self.next_step += 1;
        }
        Filling {
            batch,
            held: Vec::new(),
            lane_share: self.lane_share,
            n_lanes: self.lanes_per_micro_batch,
            first_lane,
            time: Duration::ZERO,
        }
    }

    /// Gives a batch its final shape; returns it with the number of samples that were held for it.
    pub(crate) fn finish(&self, filling: Filling, recorder: &Recorder) -> (Batch, usize) {
        let start = Instant::now();
        let Filling {
            mut batch,
            held,
            time,
            ..
        } = filling;
        let keys: Vec<SampleKey> = batch
            .samples
            .iter()
            .map(|&SampleId { epoch, row }| SampleKey {
                seed: self.seed,
                epoch,
                sample: row,
            })
            .collect();
        match &*self.kind {
            SampleKind::Image(_) => {}
            SampleKind::Audio { config, .. } => {
                audio::collate(&mut batch, &held, config, self.mask.as_ref(), &keys);
            }
            SampleKind::Text { .. } | SampleKind::Tokens(_) => {
                text::collate(&mut batch, &held, &self.kind, self.mask.as_ref(), &keys);
            }
        }
        recorder.collate.record(time + start.elapsed(), false);
        (batch, held.len())
    }
}

impl Filling {
    /// Returns the place of the next sample, or `None` if the batch is full. In a plan by cost a batch is
    /// never full here: the plan of its lane determines where it ends.
    pub(crate) fn next(&self) -> Option<Place> {
        let n_samples = self.batch.n_samples;
        let (lane_idx, n_before) = match self.lane_share {
            StepSize::Samples(share) if n_samples == self.n_lanes * share => return None,
            StepSize::Samples(share) => (self.first_lane + n_samples / share, n_samples % share),
            StepSize::Cost(_) => (self.first_lane, n_samples),
        };
        Some(Place {
            lane_idx,
            step: self.batch.step,
            n_before,
        })
    }

    /// Appends one sample; returns whether it was copied, so that its memory is free again.
    ///
    /// This is the only copy of pixels between crop and device. It is needed because a bad row moves all
    /// rows behind it, so that the place of a crop is not known when it is made.
    pub(crate) fn push(&mut self, id: SampleId, mut sample: Sample) -> bool {
        let start = Instant::now();
        match std::mem::replace(&mut sample.metadata, RowMetadata::None) {
            RowMetadata::None => {}
            RowMetadata::Label(label) => self.batch.labels.push(label),
            RowMetadata::Key(key) => self.batch.keys.push(key),
        }
        self.batch.samples.push(id);
        self.batch.n_samples += 1;
        let is_copied = if let (Media::Images { pixels, .. }, SampleMedia::Pixels(crop)) =
            (&mut self.batch.media, &sample.media)
        {
            pixels.extend_from_slice(crop);
            self.batch.masks.extend_from_slice(&sample.masks);
            true
        } else {
            self.held.push(sample);
            false
        };
        self.time += start.elapsed();
        is_copied
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batch.n_samples == 0
    }
}
