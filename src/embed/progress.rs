//! Progress of the pass over the dataset.

use std::time::{Duration, Instant};

use crate::progress_bar::ProgressBar;

/// Interval of progress lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Shows a bar on a terminal, a line every few seconds elsewhere.
pub(super) struct Progress {
    bar: ProgressBar,
    /// Path or URL of the features.
    to: String,
    n_rows: u64,
    last_line: Instant,
}

impl Progress {
    /// Starts counting at row `from` of `n_rows`.
    pub(super) fn new(to: &str, n_rows: u64, from: u64) -> Self {
        let template = "{bar:30} row {pos}/{len}, {per_sec}, {eta} left";
        let bar = ProgressBar::new(template, n_rows, from);
        if from > 0 {
            tracing::info!("resuming from row {from} in {to}");
        }
        Self {
            bar,
            to: to.to_owned(),
            n_rows,
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
                self.n_rows,
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
