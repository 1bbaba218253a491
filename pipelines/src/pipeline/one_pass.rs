//! One finite pass over a set, in the order of its files.

use std::sync::Arc;

use super::bad_log::BadRowList;
use super::build::{Opened, Pass, check, largest_groups_bytes, start};
use super::collate::Collator;
use super::fetch::Source;
use super::worker::Work;
use super::{Options, Pipeline};
use crate::Result;
use crate::config::{DataConfig, StepSize};
use crate::plan::{Layout, Mix, Slot, file_order};
use crate::shard::Dataset;
use crate::tokenize::SpecialTokens;

/// A set that is open for a pass over all of it: what it holds can be asked before the pass starts.
pub struct WholeSet {
    opened: Opened,
    config: DataConfig,
    /// Samples of a batch.
    batch: usize,
}

impl WholeSet {
    /// Opens the set at `url`, for batches of `batch` samples on each of `world` ranks.
    ///
    /// # Errors
    ///
    /// [`Error::Config`](crate::Error::Config) with all problems of settings, and what opening a
    /// set can give.
    pub fn open(config: &DataConfig, url: &str, batch: usize, world: usize) -> Result<Self> {
        let mut config = config.clone();
        // What a pass has in place of lanes: each rank's batch in turn.
        (config.batch, config.lanes) = (Some(batch * world), world);
        (config.batch_seconds, config.batch_tokens) = (None, None);
        let options = Options {
            world,
            ..Options::default()
        };
        check(&config, &options)?;
        let mut opened = Opened::open(&url.to_owned().into(), &config)?;
        opened.take_whole_recordings()?;
        Ok(Self {
            opened,
            config,
            batch,
        })
    }

    /// The set.
    pub fn set(&self) -> &Dataset {
        &self.opened.sets.datasets()[0]
    }

    /// What the ids of texts mean; `None` for other media.
    pub fn specials(&self) -> Option<SpecialTokens> {
        self.opened.recipe.specials()
    }

    /// As [`Pipeline::vocabulary_sha256`].
    pub fn vocabulary_sha256(&self) -> Option<&str> {
        self.opened.recipe.vocabulary_sha256()
    }

    /// Starts a pass as [`Pipeline::evaluate`] does, but at `first_row` and with
    /// [`keys`](crate::batch::Batch::keys) in place of labels, which rows may lack: the batches of
    /// a pass that begins after another one's last row are those that would have come.
    /// `options.bad_rows` are those before `first_row`; `rank` and `world` are not used.
    ///
    /// # Errors
    ///
    /// As [`Pipeline::train`].
    pub fn keyed(self, first_row: u64, options: &Options) -> Result<Pipeline> {
        let options = Options {
            rank: 0,
            world: 1,
            ..options.clone()
        };
        self.start(first_row, true, &options)
    }

    /// Starts a pass with labels over all rows that are this rank's.
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
            parts_per_step: 1,
            ..options.clone()
        };
        check(&config, &options)?;
        let Options { rank, world, .. } = options;
        let is_mine =
            move |slot: &Slot| slot.row >= first_row && slot.row as usize / batch % world == rank;
        let windows = file_order(&Layout::of(&opened.sets.datasets()[0]))
            .map(move |window| window.slots.into_iter().filter(is_mine).collect());
        let largest_window_bytes = largest_groups_bytes(&opened.sets.datasets()[0], 1);
        let Opened {
            sets,
            recipe,
            runtime,
            fingerprint,
        } = opened;
        let collator = Collator {
            recipe: Arc::new(recipe),
            mask: None,
            seed: config.seed,
            lane_share: StepSize::Samples(batch),
            most_lane_samples: batch,
            lanes_per_part: 1,
            n_parts: 1,
            next_step: 0,
            next_part: 0,
        };
        let bad_rows = BadRowList::new(&options.bad_rows, &[]);
        let pass = Pass {
            sources: vec![Source {
                windows: Box::new(windows),
                largest_window_bytes,
            }],
            mix: Mix::single(1),
            lanes: 0..1,
            n_planned: vec![sets.rows()],
            n_good_before: first_row.saturating_sub(bad_rows.rows().len() as u64),
            collator,
            bad_rows,
            evaluate: true,
            keyed,
        };
        start(
            (sets, fingerprint, runtime),
            pass,
            &config,
            &options,
            Work::sample,
        )
    }
}
