//! Progress of the pass over the dataset.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Interval of progress lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Shows a bar on a terminal, a line every few seconds elsewhere.
pub(super) struct Progress {
    bar: ProgressBar,
    /// Path or URL of the features.
    to: String,
    last_line: Instant,
}

impl Progress {
    /// Starts counting at row `from` of `n_rows`.
    pub(super) fn new(to: &str, n_rows: u64, from: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(n_rows), ProgressDrawTarget::stderr());
        let style = "{bar:30} row {pos}/{len}, {per_sec}, {eta} left";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        bar.set_position(from);
        // The rate, and with it the time left, counts from here on.
        bar.reset_eta();
        if from > 0 {
            tracing::info!("resuming from row {from} in {to}");
        }
        Self {
            bar,
            to: to.to_owned(),
            last_line: Instant::now(),
        }
    }

    /// Records that all rows before `row` are done.
    pub(super) fn show(&mut self, row: u64) {
        self.bar.set_position(row);
        if self.bar.is_hidden() && self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            let left = self.bar.eta().as_secs();
            tracing::info!(
                "{}: row {row}/{}, {:.1} rows/s, {}:{:02} left",
                self.to,
                self.bar.length().unwrap_or_default(),
                self.bar.per_sec(),
                left / 60,
                left % 60
            );
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
