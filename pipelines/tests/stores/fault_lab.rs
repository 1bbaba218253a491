//! A dataset in an S3 server behind a proxy with faults, and how it is read.

use std::time::Duration;

use understudy_pipelines::DataConfig;

use crate::datasets::{BUCKET, FOLDER, TestDataset, config_of, read_meanwhile, s3_environment};
use crate::lab::fault::{Fault, When};
use crate::lab::proxy::{Line, Proxy};
use crate::lab::reader::{Outcome, Reading};
use crate::lab::seaweed::Seaweed;

/// Limit without a warning or a batch: a wait is logged after ten seconds, the rest is for a busy
/// machine.
pub(crate) const LONGEST_SILENCE: Duration = Duration::from_secs(15);
/// Limit between two warnings: a wait is logged again after half a minute.
pub(crate) const LONGEST_SILENCE_AFTER_WARNING: Duration = Duration::from_secs(45);

/// A store behind a proxy, with a dataset in it.
pub(crate) struct Lab {
    pub(crate) dataset: TestDataset,
    pub(crate) store: Seaweed,
    pub(crate) proxy: Proxy,
}

impl Lab {
    pub(crate) fn new() -> Option<Self> {
        let dataset = TestDataset::new();
        let store = dataset.in_seaweed()?;
        let proxy = Proxy::start("127.0.0.1:0", store.address()).expect("a port");
        Some(Self {
            dataset,
            store,
            proxy,
        })
    }

    /// Reads the dataset through the proxy and prints a row of the fault table. Calls `meanwhile` at each
    /// batch.
    pub(crate) fn read(
        &mut self,
        what: &str,
        meanwhile: impl FnMut(&mut Seaweed, usize),
    ) -> Reading {
        let config = patient(&format!("s3://{BUCKET}/{FOLDER}"));
        self.read_as(what, &config, LONGEST_SILENCE, meanwhile)
    }

    pub(crate) fn read_as(
        &mut self,
        what: &str,
        config: &DataConfig,
        may_be_silent: Duration,
        mut meanwhile: impl FnMut(&mut Seaweed, usize),
    ) -> Reading {
        let before = self.proxy.counts();
        let environment = s3_environment(self.proxy.address);
        let reading = read_meanwhile(config, &environment, |n| meanwhile(&mut self.store, n));
        let after = self.proxy.counts();
        let outcome = match &reading.outcome {
            outcome if *outcome == self.dataset.expected => {
                "finished, exactly the right batches".into()
            }
            Outcome::Finished(digest) if Some(&digest.media) == self.dataset.media().as_ref() => {
                "finished, exactly the right images, OTHER LABELS".into()
            }
            Outcome::Finished(_) => "OTHER DATA".into(),
            Outcome::Stopped(error) => format!("stopped: {error}"),
            other => format!("{other:?}"),
        };
        let row = format!(
            "| {what} | {} of {} | {outcome} | {:.1} s | {:.1} s |",
            after.faults - before.faults,
            after.reads - before.reads,
            reading.took.as_secs_f64(),
            reading.longest_silence.as_secs_f64()
        );
        self.proxy.set_fault(None);
        self.proxy.set_line(Line::default());
        println!("{row}");
        assert!(
            reading.longest_silence < may_be_silent,
            "{what}: {reading:?}"
        );
        reading
    }

    /// Limits the bandwidth, so that something can happen during the read.
    pub(crate) fn slow_down(&self) {
        self.proxy.set_line(Line {
            bytes_per_sec: Some(300_000),
            ..Line::default()
        });
    }

    /// Checks that faults in some of the reads do not change the batches.
    pub(crate) fn withstands(&mut self, what: &str, fault: Fault, when: When) {
        self.proxy.set_fault(Some((fault, when)));
        let before = self.proxy.counts().faults;
        let reading = self.read(what, |_, _| {});
        assert_eq!(
            reading.outcome, self.dataset.expected,
            "{what}: {reading:?}"
        );
        assert!(
            self.proxy.counts().faults > before + 1,
            "{what}: the fault did not happen"
        );
    }
}

/// Returns a config for the dataset at `url` with retries for two minutes.
pub(crate) fn patient(url: &str) -> DataConfig {
    DataConfig {
        retry_for: "2min".to_owned(),
        ..config_of(url)
    }
}

/// Schedules faults for `burst` reads in a row of each `every` reads.
pub(crate) fn every(every: u64, burst: u64) -> When {
    When::Every {
        every,
        burst,
        from: 3,
    }
}
