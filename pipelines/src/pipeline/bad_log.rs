//! Bad samples of a pipeline: the list for a checkpoint, and the limit of their number.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::plan::Slot;
use crate::quarantine::Quarantine;
use crate::shard::Mixture;
use crate::stats::Recorder;
use crate::{Error, Result, SampleError};

/// Minimum number of samples that `max_bad_fraction` refers to.
const MIN_SAMPLES: u64 = 1000;
/// Number of bad samples that is always allowed, unless `max_bad_fraction` is 0: a run does not stop
/// at its first one.
const MIN_ALLOWED: u64 = 10;

/// Rows without a usable sample, in the order of the batches.
#[derive(Debug)]
pub(crate) struct BadLog {
    pub(crate) mixture: Arc<Mixture>,
    pub(crate) rows: BadRowList,
    pub(crate) quarantine: Option<Quarantine>,
    pub(crate) max_bad_fraction: f64,
    /// Whether samples that are too short are skipped, as in training, instead of bad.
    pub(crate) leaves_out_short: bool,
    /// Rows per epoch of each dataset, in the order of the datasets.
    pub(crate) n_planned: Vec<u64>,
    pub(crate) n_failed: u64,
    /// Good samples of the steps before the resume.
    pub(crate) n_good_before: u64,
    /// Location and reason of the last one.
    pub(crate) last: String,
}

/// Row numbers, readable while the pipeline runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct BadRowList(Arc<Mutex<Found>>);

#[derive(Debug, Default)]
struct Found {
    /// All rows without a usable sample.
    rows: BTreeSet<u64>,
    /// Rows that are too short, but not bad.
    short: BTreeSet<u64>,
}

impl BadRowList {
    pub(crate) fn new(bad: &[u64], short: &[u64]) -> Self {
        Self(Arc::new(Mutex::new(Found {
            rows: bad.iter().chain(short).copied().collect(),
            short: short.iter().copied().collect(),
        })))
    }

    /// Returns all rows that are skipped.
    pub(crate) fn rows(&self) -> BTreeSet<u64> {
        self.lock().rows.clone()
    }

    /// Returns the number of skipped rows.
    pub(crate) fn len(&self) -> usize {
        self.lock().rows.len()
    }

    pub(crate) fn bad(&self) -> Vec<u64> {
        let found = self.lock();
        found.rows.difference(&found.short).copied().collect()
    }

    pub(crate) fn short(&self) -> Vec<u64> {
        self.lock().short.iter().copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Found> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BadLog {
    /// Records a row without a usable sample. An error if too many samples are bad, or no good one
    /// is left.
    pub(crate) fn add(
        &mut self,
        slot: &Slot,
        reason: &SampleError,
        recorder: &Recorder,
    ) -> Result<()> {
        let is_short = self.leaves_out_short && matches!(reason, SampleError::Short { .. });
        let mut found = self.rows.lock();
        if !found.rows.insert(slot.row) {
            return Ok(()); // It was dispatched twice before the error was known.
        }
        if is_short {
            found.short.insert(slot.row);
        }
        let none_left = self.is_hopeless(&found.rows);
        drop(found);
        let (dataset, shard, row) = self.mixture.place(slot.shard as usize, slot.row);
        let dataset = &dataset.location.url;
        self.last = format!("row {row} of {} of {dataset}: {reason}", shard.path);
        if is_short {
            recorder.short_samples.fetch_add(1, Relaxed);
        } else {
            tracing::warn!(dataset, shard = shard.path, row, %reason, "bad sample");
            if let Some(quarantine) = &mut self.quarantine {
                quarantine.add(dataset, &shard.path, row, reason)?;
            }
            recorder.bad_samples.fetch_add(1, Relaxed);
            self.n_failed += 1;
            self.judge(recorder)?;
        }
        if none_left {
            return Err(self.none_left());
        }
        Ok(())
    }

    /// Returns whether a dataset has no good row: a lane would search for one forever.
    pub(crate) fn is_hopeless(&self, bad: &BTreeSet<u64>) -> bool {
        let datasets = || self.mixture.dataset_rows().zip(&self.n_planned);
        // The first check is fast, and sufficient as long as few rows are bad.
        datasets().any(|(_, &n_planned)| n_planned <= bad.len() as u64)
            && datasets().any(|(rows, &n_planned)| n_planned <= bad.range(rows).count() as u64)
    }

    /// Checks the number of bad samples, including those before a resume.
    pub(crate) fn judge(&self, recorder: &Recorder) -> Result<()> {
        let seen = self.n_failed + self.n_good_before + recorder.samples.load(Relaxed);
        let limit = self.max_bad_fraction;
        let min_allowed = if limit > 0.0 { MIN_ALLOWED } else { 0 };
        let allowed = (limit * seen.max(MIN_SAMPLES) as f64).max(min_allowed as f64);
        if self.n_failed as f64 > allowed {
            return Err(Error::TooManyBadSamples {
                failed: self.n_failed,
                seen,
                limit,
                last: self.last.clone(),
            });
        }
        Ok(())
    }

    /// Returns the error of a dataset without a good row.
    pub(crate) fn none_left(&self) -> Error {
        Error::NoGoodSample {
            last: self.last.clone(),
        }
    }
}
