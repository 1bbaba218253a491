//! Samples in order become batches.

use std::time::{Duration, Instant};

use super::work::Sample;
use crate::batch::{Batch, SampleId};
use crate::stats::Recorder;

/// Sizes of the batches to fill, and which comes next.
pub(crate) struct Collator {
    /// Samples of one lane in one step.
    pub(crate) lane_samples: usize,
    pub(crate) lanes_per_part: usize,
    pub(crate) n_parts: usize,
    pub(crate) size: usize,
    pub(crate) n_masks: usize,
    pub(crate) n_patches: usize,
    pub(crate) next_step: u64,
    pub(crate) next_part: usize,
}

/// A batch that is being filled.
pub(crate) struct Filling {
    batch: Batch,
    n_wanted: usize,
    first_lane: usize,
    lane_samples: usize,
    time: Duration,
}

impl Collator {
    /// Bytes of one sample's pixels and masks.
    pub(crate) fn sample_bytes(&self) -> usize {
        self.size * self.size * 3 + self.n_masks * self.n_patches
    }

    /// Bytes of one part.
    pub(crate) fn part_bytes(&self) -> usize {
        let ids = size_of::<SampleId>() + size_of::<i64>();
        self.part_samples() * (self.sample_bytes() + ids)
    }

    fn part_samples(&self) -> usize {
        self.lanes_per_part * self.lane_samples
    }

    /// An empty batch: the next part, or the first part of the next step.
    pub(crate) fn begin(&mut self) -> Filling {
        let n_wanted = self.part_samples();
        let batch = Batch {
            step: self.next_step,
            part: self.next_part,
            n_parts: self.n_parts,
            n_samples: 0,
            size: self.size,
            images: Vec::with_capacity(n_wanted * self.size * self.size * 3),
            n_masks: self.n_masks,
            n_patches: self.n_patches,
            masks: Vec::with_capacity(n_wanted * self.n_masks * self.n_patches),
            labels: Vec::new(),
            samples: Vec::with_capacity(n_wanted),
        };
        let first_lane = self.next_part * self.lanes_per_part;
        self.next_part += 1;
        if self.next_part == self.n_parts {
            self.next_part = 0;
            self.next_step += 1;
        }
        let lane_samples = self.lane_samples;
        Filling {
            batch,
            n_wanted,
            first_lane,
            lane_samples,
            time: Duration::ZERO,
        }
    }
}

impl Filling {
    /// The lane of this rank whose sample comes next; none if the batch is full.
    pub(crate) fn lane_idx(&self) -> Option<usize> {
        let wants_more = self.batch.n_samples < self.n_wanted;
        wants_more.then(|| self.first_lane + self.batch.n_samples / self.lane_samples)
    }

    /// Puts one sample at the end.
    ///
    /// The one copy of pixels between crop and device: a row that turns out bad moves all those
    /// behind it, so a crop's place in a batch is not known when it is made.
    pub(crate) fn push(&mut self, id: SampleId, sample: &Sample) {
        let start = Instant::now();
        self.batch.images.extend_from_slice(&sample.pixels);
        self.batch.masks.extend_from_slice(&sample.masks);
        self.batch.labels.extend(sample.label);
        self.batch.samples.push(id);
        self.batch.n_samples += 1;
        self.time += start.elapsed();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batch.n_samples == 0
    }

    pub(crate) fn finish(self, recorder: &Recorder) -> Batch {
        recorder.collate.record(self.time, false);
        self.batch
    }
}
