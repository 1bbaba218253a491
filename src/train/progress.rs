//! What a person sees of a run, and the rates in its metrics.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use understudy_pipelines::stats::Stats;

use crate::config::RunConfig;
use crate::train::metrics::Metrics;
use crate::train::step::Reading;

/// Live progress: a bar on a terminal, a line per logged step elsewhere.
pub(super) struct Progress {
    bar: ProgressBar,
    /// The run, as a person would write it.
    folder: String,
    /// Samples since the last line of metrics.
    samples: u64,
    steps: u64,
    /// The step that this process went on from.
    from: u64,
    since: Instant,
    waited: Duration,
    /// The data's counts at the last verdict.
    data: Option<Stats>,
}

impl Progress {
    /// Starts to count at step `from`.
    pub(super) fn new(config: &RunConfig, folder: String, from: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(config.steps), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{bar:30} step {pos}/{len}  {msg}  {eta} left");
        if let Ok(style) = style {
            bar.set_style(style);
        }
        bar.set_position(from);
        // The rate, and with it the time left, counts from here on.
        bar.reset_eta();
        if from > 0 {
            tracing::info!("going on from step {from} in {folder}");
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
    pub(super) fn took(&mut self, n_samples: usize, wait: Duration) {
        self.samples += n_samples as u64;
        self.waited += wait;
    }

    /// Makes the line of metrics: what was read from the device, and the rates since the last line.
    pub(super) fn measure(&mut self, reading: Reading, bad_samples: usize) -> Metrics {
        let metrics = Metrics {
            step: reading.step,
            loss: reading.loss,
            regression: reading.regression,
            cls: reading.cls,
            target_var: reading.target_var,
            pred_var: reading.pred_var,
            local_var: reading.local_var,
            grad_norm: reading.grad_norm,
            lr: reading.lr,
            decay: reading.decay,
            samples_per_sec: self.samples as f64 / self.since.elapsed().as_secs_f64(),
            wait_secs: self.waited.as_secs_f64(),
            bad_samples,
        };
        self.since = Instant::now();
        self.samples = 0;
        self.waited = Duration::ZERO;
        metrics
    }

    /// Shows a line of metrics.
    pub(super) fn show(&self, metrics: &Metrics) {
        let message = format!(
            "loss {:.4}  target_var {:.3}  pred_var {:.3}  local_var {:.3}  lr {:.2e}  {:.1} samples/s",
            metrics.loss,
            metrics.target_var,
            metrics.pred_var,
            metrics.local_var,
            metrics.lr,
            metrics.samples_per_sec
        );
        self.bar.set_position(metrics.step);
        self.bar.set_message(message.clone());
        if self.bar.is_hidden() {
            let left = self.bar.eta().as_secs();
            tracing::info!(
                "step {}/{}  {message}  {}:{:02} left",
                metrics.step,
                self.steps,
                left / 60,
                left % 60
            );
        }
    }

    /// Says what has limited the run since this was last said.
    pub(super) fn say_limit(&mut self, data: Stats) {
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

    /// Says that a signal ended the run after `step`.
    pub(super) fn interrupted(&self, step: u64) {
        self.bar.abandon();
        let folder = &self.folder;
        if step == self.from {
            let next = step + 1;
            tracing::info!(
                "interrupted before step {next} was done: nothing new to save in {folder}; the \
                 same command begins with step {next} again"
            );
        } else {
            tracing::info!(
                "interrupted: step {step} is saved in {folder}; the same command goes on from there"
            );
        }
    }

    /// Says that the run is done.
    pub(super) fn finished(&self) {
        self.bar.finish();
        tracing::info!("finished: {} steps in {}", self.steps, self.folder);
    }
}
