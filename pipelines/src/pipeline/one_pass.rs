//! One finite pass over a dataset, in the order of its files.

use std::sync::Arc;

use super::bad_log::BadRowList;
use super::build::{Opened, RunSpec, check, largest_groups_bytes, start};
use super::collate::Collator;
use super::fetch::StreamSource;
use super::worker::Worker;
use super::{Options, Pipeline};
use crate::Result;
use crate::config::{DataConfig, StepSize};
use crate::plan::{Layout, Mix, Slot, file_order};
use crate::shard::Dataset;
use crate::tokenize::SpecialTokens;

/// A dataset that is open for one pass over all its rows, and can be inspected before the pass starts.
pub struct OnePass {
    opened: Opened,
    config: DataConfig,
    /// Samples per batch.
    batch: usize,
}

impl OnePass {
    /// Opens the dataset at `url`, for batches of `batch` samples on each of `world` ranks.
    ///
    /// # Errors
    ///
    /// [`Error::Config`](crate::Error::Config) with all invalid settings, and every error of opening a
    /// dataset.
    pub fn open(config: &DataConfig, url: &str, batch: usize, world: usize) -> Result<Self> {
        let mut config = config.clone();
        // A pass has one lane per rank, each with one batch per step.
        (config.batch, config.lanes) = (Some(batch * world), world);
        (config.batch_seconds, config.batch_tokens) = (None, None);
        let options = Options {
            world,
            ..Options::default()
        };
        check(&config, &options)?;
        let mut opened = Opened::open(&url.to_owned().into(), &config)?;
        opened.allow_longest_audio()?;
        Ok(Self {
            opened,
            config,
            batch,
        })
    }

    /// Returns the open dataset.
    pub fn dataset(&self) -> &Dataset {
        &self.opened.mixture.datasets()[0]
    }

    /// Returns the special tokens of the vocabulary that texts are in; `None` for images and audio.
    pub fn special_tokens(&self) -> Option<SpecialTokens> {
        self.opened.kind.special_tokens()
    }

    /// Returns the same hash as [`Pipeline::vocabulary_sha256`].
    pub fn vocabulary_sha256(&self) -> Option<&str> {
        self.opened.kind.vocabulary_sha256()
    }

    /// Starts a pass at `first_row`, with [`keys`](crate::batch::Batch::keys) instead of labels.
    ///
    /// Unlike in [`Pipeline::evaluate`], a row may lack a label. A pass that starts after the last row of
    /// another one continues with the batches that would have followed. `options.bad_rows` are those
    /// before `first_row`; `rank` and `world` are not used.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Pipeline::train`].
    pub fn keyed(self, first_row: u64, options: &Options) -> Result<Pipeline> {
        let options = Options {
            rank: 0,
            world: 1,
            ..options.clone()
        };
        self.start(first_row, true, &options)
    }

    /// Starts a pass with labels over all rows of this rank.
    pub(super) fn labelled(self, options: &Options) -> Result<Pipeline> {
        let options = Options {
            bad_rows: Vec::new(),
            short_rows: Vec::new(),
            ..options.clone()
        };
        self.start(0, false, &options)
    }

    fn start(self, first_row: u64, keyed: bool, options: &Options) -> Result<Pipeline> {
        let Self {
            opened,
            config,
            batch,
        } = self;
        let options = Options {
            micro_batches_per_step: 1,
            ..options.clone()
        };
        check(&config, &options)?;
        let Options { rank, world, .. } = options;
        let is_mine =
            move |slot: &Slot| slot.row >= first_row && slot.row as usize / batch % world == rank;
        let windows = file_order(&Layout::of(&opened.mixture.datasets()[0]))
            .map(move |window| window.slots.into_iter().filter(is_mine).collect());
        let largest_window_bytes = largest_groups_bytes(&opened.mixture.datasets()[0], 1);
        let Opened {
            mixture,
            kind,
            runtime,
            fingerprint,
        } = opened;
        let collator = Collator {
            kind: Arc::new(kind),
            mask: None,
            seed: config.seed,
            lane_share: StepSize::Samples(batch),
            max_lane_samples: batch,
            lanes_per_micro_batch: 1,
            n_micro_batches: 1,
            next_step: 0,
            next_micro_batch: 0,
        };
        let bad_rows = BadRowList::new(&options.bad_rows, &[]);
        let spec = RunSpec {
            sources: vec![StreamSource {
                windows: Box::new(windows),
                largest_window_bytes,
            }],
            mix: Mix::single(1),
            lanes: 0..1,
            n_planned: vec![mixture.rows()],
            n_good_before: first_row.saturating_sub(bad_rows.rows().len() as u64),
            collator,
            bad_rows,
            evaluate: true,
            keyed,
        };
        start(
            (mixture, fingerprint, runtime),
            spec,
            &config,
            &options,
            Worker::sample,
        )
    }
}
