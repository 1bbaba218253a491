//! Samples in order become batches.

mod audio;
mod text;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::sample_kind::Recipe;
use super::worker::{Beside, Sample, SampleMedia};
use crate::batch::{Batch, Media, SampleId};
use crate::config::{MaskConfig, StepSize};
use crate::rng::SampleKey;
use crate::stats::Recorder;

/// What batches are made of, and which comes next.
pub(crate) struct Collator {
    pub(crate) recipe: Arc<Recipe>,
    /// None in an evaluation pass.
    pub(crate) mask: Option<MaskConfig>,
    pub(crate) seed: u64,
    /// What one lane gives to one step, and how many samples that can be.
    pub(crate) lane_share: StepSize,
    pub(crate) most_lane_samples: usize,
    pub(crate) lanes_per_part: usize,
    pub(crate) n_parts: usize,
    pub(crate) next_step: u64,
    pub(crate) next_part: usize,
}

/// A place in a step: the lane of this rank, and the samples of its share that come before.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) lane_idx: usize,
    pub(crate) step: u64,
    pub(crate) n_before: usize,
}

/// A batch that is being filled.
pub(crate) struct Filling {
    batch: Batch,
    /// Samples whose shape depends on those that are still to come.
    held: Vec<Sample>,
    lane_share: StepSize,
    n_lanes: usize,
    first_lane: usize,
    time: Duration,
}

impl Collator {
    /// Bytes of one sample that waits for its place.
    pub(crate) fn sample_bytes(&self) -> usize {
        match &*self.recipe {
            Recipe::Image(image) => {
                let mask = self.mask.as_ref();
                let masks = mask.map_or(0, |mask| mask.n_masks() * mask.n_patches().unwrap_or(0));
                (image.size as usize).pow(2) * 3 + masks
            }
            Recipe::Audio { most_frames, .. } => most_frames * size_of::<f32>(),
            Recipe::Text { max_tokens, .. } => max_tokens * size_of::<u32>(),
            Recipe::Tokens(info) => info.block_tokens as usize * size_of::<u32>(),
        }
    }

    /// Bytes of one part, at most.
    pub(crate) fn part_bytes(&self) -> usize {
        let n_samples = self.part_samples();
        let n_masks = self.mask.as_ref().map_or(0, MaskConfig::n_masks);
        let ids = n_samples * (size_of::<SampleId>() + size_of::<i64>());
        let media = match (&*self.recipe, self.lane_share) {
            (Recipe::Image(_), _) => n_samples * self.sample_bytes(),
            (
                Recipe::Audio {
                    config,
                    most_frames,
                },
                share,
            ) => {
                let n_frames = match share {
                    StepSize::Samples(_) => n_samples * most_frames,
                    StepSize::Cost(n_frames) => n_frames as usize,
                };
                let n_positions = n_frames / config.hop_frames + n_samples;
                n_frames * size_of::<f32>() + n_masks * n_positions
            }
            (Recipe::Text { .. } | Recipe::Tokens(_), _) => {
                let replaces = self.mask.as_ref().is_some_and(MaskConfig::replaces_tokens);
                let student = if replaces { n_masks } else { 0 };
                let n_tokens = n_samples * self.sample_bytes() / size_of::<u32>();
                n_tokens * (size_of::<u32>() * (1 + student) + n_masks)
            }
        };
        media + ids
    }

    /// Samples that must be held at once to make a part.
    pub(crate) fn least_samples(&self) -> usize {
        match &*self.recipe {
            Recipe::Image(_) => 1,
            _ => self.part_samples(),
        }
    }

    fn part_samples(&self) -> usize {
        self.lanes_per_part * self.most_lane_samples
    }

    /// An empty batch: the next part, or the first part of the next step.
    pub(crate) fn begin(&mut self) -> Filling {
        let n_most = self.part_samples();
        let mask = self.mask.as_ref();
        // Pictures go into the batch one by one, all else once the batch's shape is known.
        let (media, n_positions) = match &*self.recipe {
            Recipe::Image(image) => {
                let size = image.size as usize;
                let pixels = Vec::with_capacity(n_most * size * size * 3);
                (
                    Media::Images { size, pixels },
                    mask.and_then(MaskConfig::n_patches).unwrap_or(0),
                )
            }
            Recipe::Audio { .. } => (audio::empty(), 0),
            Recipe::Text { .. } | Recipe::Tokens(_) => (text::empty(), 0),
        };
        let n_masks = mask.map_or(0, MaskConfig::n_masks);
        let batch = Batch {
            step: self.next_step,
            part: self.next_part,
            n_parts: self.n_parts,
            n_samples: 0,
            media,
            n_masks,
            n_positions,
            masks: Vec::with_capacity(n_most * n_masks * n_positions),
            labels: Vec::new(),
            keys: Vec::new(),
            samples: Vec::new(),
        };
        let first_lane = self.next_part * self.lanes_per_part;
        self.next_part += 1;
        if self.next_part == self.n_parts {
            self.next_part = 0;
            self.next_step += 1;
        }
        Filling {
            batch,
            held: Vec::new(),
            lane_share: self.lane_share,
            n_lanes: self.lanes_per_part,
            first_lane,
            time: Duration::ZERO,
        }
    }

    /// Gives a batch its final shape; also the number of samples that were held for it.
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
        match &*self.recipe {
            Recipe::Image(_) => {}
            Recipe::Audio { config, .. } => {
                audio::collate(&mut batch, &held, config, self.mask.as_ref(), &keys);
            }
            Recipe::Text { .. } | Recipe::Tokens(_) => {
                text::collate(&mut batch, &held, &self.recipe, self.mask.as_ref(), &keys);
            }
        }
        recorder.collate.record(time + start.elapsed(), false);
        (batch, held.len())
    }
}

impl Filling {
    /// Where the sample that comes next is taken from; none if the batch is full. A batch by cost is
    /// never full: its lane's plan says where it ends.
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

    /// Puts one sample at the end; true if it was copied out and need not be held.
    ///
    /// The one copy of pixels between crop and device: a row that turns out bad moves all those
    /// behind it, so a crop's place in a batch is not known when it is made.
    pub(crate) fn push(&mut self, id: SampleId, mut sample: Sample) -> bool {
        let start = Instant::now();
        match std::mem::replace(&mut sample.beside, Beside::Nothing) {
            Beside::Nothing => {}
            Beside::Label(label) => self.batch.labels.push(label),
            Beside::Key(key) => self.batch.keys.push(key),
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
