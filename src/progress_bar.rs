//! Progress bars on a terminal. They exist with the feature `cli` only; the callers log lines where
//! the bar is hidden.

use std::time::Duration;

pub(crate) use self::bar::ProgressBar;

/// Formats the time left, `eta`, after `n_done` steps of this process. It is empty until two are done:
/// the first one includes the start of the device, and there is no rate before it.
pub(crate) fn left(n_done: u64, eta: Duration) -> String {
    if n_done < 2 {
        return String::new();
    }
    let secs = eta.as_secs();
    let (hours, minutes, secs) = (secs / 3600, secs / 60 % 60, secs % 60);
    if hours > 0 {
        format!("  {hours}:{minutes:02}:{secs:02} left")
    } else {
        format!("  {minutes}:{secs:02} left")
    }
}

/// With the feature `cli`: a bar of `indicatif` on stderr, hidden if that is not a terminal.
#[cfg(feature = "cli")]
mod bar {
    use std::time::Duration;

    use indicatif::{ProgressDrawTarget, ProgressState, ProgressStyle};

    use super::left;

    /// A progress bar, drawn on a terminal.
    pub(crate) struct ProgressBar(indicatif::ProgressBar);

    impl ProgressBar {
        /// Starts at `from` of `total`. `template` is in the syntax of `indicatif`, with the key
        /// `left` for [`left()`].
        pub(crate) fn new(template: &str, total: u64, from: u64) -> Self {
            let stderr = ProgressDrawTarget::stderr();
            let bar = indicatif::ProgressBar::with_draw_target(Some(total), stderr);
            if let Ok(style) = ProgressStyle::with_template(template) {
                let show_left = move |state: &ProgressState, out: &mut dyn std::fmt::Write| {
                    // A bar is drawn as far as it can be.
                    let n_done = state.pos().saturating_sub(from);
                    let _ = out.write_str(&left(n_done, state.eta()));
                };
                bar.set_style(style.with_key("left", show_left));
            }
            bar.set_position(from);
            // The rate, and with it the time left, counts from here on.
            bar.reset_eta();
            Self(bar)
        }

        /// Returns whether nothing is drawn.
        pub(crate) fn is_hidden(&self) -> bool {
            self.0.is_hidden()
        }

        pub(crate) fn set_position(&self, position: u64) {
            self.0.set_position(position);
        }

        #[cfg(test)]
        pub(crate) fn position(&self) -> u64 {
            self.0.position()
        }

        pub(crate) fn set_message(&self, message: String) {
            self.0.set_message(message);
        }

        /// Returns the rate, in positions per second.
        pub(crate) fn per_sec(&self) -> f64 {
            self.0.per_sec()
        }

        /// Estimates the time left.
        pub(crate) fn eta(&self) -> Duration {
            self.0.eta()
        }

        /// Prints a line above the bar.
        pub(crate) fn println(&self, line: String) {
            self.0.println(line);
        }

        /// Leaves the bar at its position.
        pub(crate) fn abandon(&self) {
            self.0.abandon();
        }

        /// Fills the bar and leaves it.
        pub(crate) fn finish(&self) {
            self.0.finish();
        }

        /// Removes the bar.
        pub(crate) fn finish_and_clear(&self) {
            self.0.finish_and_clear();
        }
    }
}

/// Without the feature `cli`: a hidden bar, which only estimates the rate.
#[cfg(not(feature = "cli"))]
mod bar {
    use std::cell::Cell;
    use std::time::{Duration, Instant};

    /// A progress bar that is never drawn.
    pub(crate) struct ProgressBar {
        total: u64,
        from: u64,
        position: Cell<u64>,
        start: Instant,
    }

    impl ProgressBar {
        /// Starts at `from` of `total`.
        pub(crate) fn new(_template: &str, total: u64, from: u64) -> Self {
            Self {
                total,
                from,
                position: Cell::new(from),
                start: Instant::now(),
            }
        }

        /// Returns `true`.
        pub(crate) fn is_hidden(&self) -> bool {
            true
        }

        pub(crate) fn set_position(&self, position: u64) {
            self.position.set(position);
        }

        #[cfg(test)]
        pub(crate) fn position(&self) -> u64 {
            self.position.get()
        }

        pub(crate) fn set_message(&self, _message: String) {}

        /// Returns the mean rate since the start, in positions per second.
        pub(crate) fn per_sec(&self) -> f64 {
            let done = self.position.get().saturating_sub(self.from);
            done as f64 / self.start.elapsed().as_secs_f64().max(1e-9)
        }

        /// Estimates the time left; zero before the first progress.
        pub(crate) fn eta(&self) -> Duration {
            let left = self.total.saturating_sub(self.position.get());
            let secs = left as f64 / self.per_sec();
            Duration::try_from_secs_f64(secs).unwrap_or_default()
        }

        pub(crate) fn println(&self, _line: String) {}

        pub(crate) fn abandon(&self) {}

        pub(crate) fn finish(&self) {}

        pub(crate) fn finish_and_clear(&self) {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_left_is_empty_until_it_is_known() {
        assert_eq!(left(0, Duration::ZERO), "");
        assert_eq!(left(1, Duration::from_secs(5)), "");
        assert_eq!(left(2, Duration::from_secs(65)), "  1:05 left");
        assert_eq!(left(9, Duration::from_secs(3661)), "  1:01:01 left");
    }
}
