//! Live progress of a run, and the rates in its metrics.

use std::time::{Duration, Instant};

use understudy_pipelines::stats::Stats;

use super::metrics::{self, MetricsLine, StepMetrics};
use crate::config::RunConfig;
use crate::progress_bar::{ProgressBar, left};

/// Shows a bar on a terminal, a line per logged step elsewhere.
pub(super) struct Progress {
    bar: ProgressBar,
    /// Path or URL of the run.
    folder: String,
    /// Samples since the last line of metrics.
    samples: u64,
    /// Total optimizer steps of the run.
    steps: u64,
    /// Step at which this process started.
    from: u64,
    since: Instant,
    /// Time spent waiting for data since the last line.
    waited: Duration,
    /// Pipeline statistics at the last verdict.
    data: Option<Stats>,
}

impl Progress {
    /// Starts counting at step `from`.
    pub(super) fn new(config: &RunConfig, folder: String, from: u64) -> Self {
        let template = "{bar:30} step {pos}/{len}  {msg}{left}";
        let bar = ProgressBar::new(template, config.steps, from);
        if from > 0 {
            tracing::info!("resuming from step {from} in {folder}");
        } else {
            tracing::info!("training in {folder}");
        }
        Self {
            bar,
            folder,
            samples: 0,
            steps: config.steps,
            from,
            since: Instant::now(),
            waited: Duration::ZERO,
            data: None,
        }
    }

    /// Adds a micro-batch, and the time that the trainer waited for it.
    pub(super) fn record(&mut self, n_samples: usize, wait: Duration) {
        self.samples += n_samples as u64;
        self.waited += wait;
    }

    /// Completes the line of `metrics.jsonl`: `step`, and the rates since the last line.
    pub(super) fn measure(&mut self, step: StepMetrics, bad_samples: usize) -> MetricsLine {
        let line = MetricsLine {
            step,
            samples_per_sec: self.samples as f64 / self.since.elapsed().as_secs_f64(),
            wait_secs: self.waited.as_secs_f64(),
            bad_samples,
            unix_secs: metrics::unix_secs(),
        };
        self.since = Instant::now();
        self.samples = 0;
        self.waited = Duration::ZERO;
        line
    }

    /// Moves the bar to `step`.
    pub(super) fn step_done(&self, step: u64) {
        self.bar.set_position(step);
    }

    /// Shows a line of metrics.
    pub(super) fn show(&self, line: &MetricsLine) {
        let step = &line.step;
        let message = format!(
            "loss {:.4}  target_var {:.3}  pred_var {:.3}  local_var {:.3}  lr {:.2e}  {:.1} samples/s",
            step.loss,
            step.target_var,
            step.pred_var,
            step.local_var,
            step.lr,
            line.samples_per_sec
        );
        self.bar.set_message(message.clone());
        if self.bar.is_hidden() {
            let left = left(step.step - self.from, self.bar.eta());
            tracing::info!("step {}/{}  {message}{left}", step.step, self.steps);
        }
    }

    /// Reports the pipeline's bottleneck since the last report.
    pub(super) fn report_bottleneck(&mut self, data: Stats) {
        let since = match &self.data {
            Some(earlier) => data.since(earlier),
            None => data.clone(),
        };
        let verdict = since.verdict();
        self.data = Some(data);
        if self.bar.is_hidden() {
            tracing::info!("{verdict}");
        } else {
            self.bar.println(verdict);
        }
    }

    /// Reports that a signal ended the run after `step`.
    pub(super) fn interrupted(&self, step: u64) {
        self.bar.abandon();
        let folder = &self.folder;
        if step == self.from {
            let next = step + 1;
            tracing::info!(
                "interrupted before step {next} was done: nothing new to save in {folder}; run the \
                 same command to resume with step {next}"
            );
        } else {
            tracing::info!(
                "interrupted: step {step} is saved in {folder}; run the same command to resume"
            );
        }
    }

    /// Reports that the run is done.
    pub(super) fn finished(&self) {
        self.bar.finish();
        tracing::info!("finished: {} steps in {}", self.steps, self.folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overrides;

    #[test]
    fn bar_moves_with_every_step() {
        let text = include_str!("../../configs/tiny-image.toml");
        let path = std::path::Path::new("tiny-image.toml");
        let config = RunConfig::parse(path, text, &Overrides::default()).expect("a recipe");
        let progress = Progress::new(&config, "run".to_owned(), 3);
        for step in [4, 5] {
            progress.step_done(step);
            assert_eq!(progress.bar.position(), step);
        }
    }
}
