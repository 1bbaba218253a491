//! Signals that ask a command to save its work and exit, so that the same command resumes: SIGINT,
//! SIGTERM, SIGHUP (the terminal or connection is closed) and SIGUSR1 (job schedulers, before the time
//! of a job is over). A second SIGINT ends the process at once.
//!
//! A second one of the others does not: `timeout` and job schedulers send it to the process and again
//! to its group, and SIGKILL later. Under `nohup`, which ignores SIGHUP, it stays ignored.

use std::ffi::c_int;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::flag;

/// The signals that are watched.
const SIGNALS: [c_int; 4] = [SIGINT, SIGTERM, SIGHUP, SIGUSR1];

/// Watches for signals.
pub(crate) struct Signals {
    received: Arc<AtomicBool>,
    /// Whether the next signal ends the process, for each of [`SIGNALS`].
    ends: [Arc<AtomicBool>; 4],
}

impl Signals {
    /// Starts watching; after this value is dropped, a signal ends the process at once.
    pub(crate) fn watch() -> Self {
        let signals = Self {
            received: Arc::default(),
            ends: Default::default(),
        };
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        for (signal, ends) in SIGNALS.into_iter().zip(&signals.ends) {
            if signal == SIGHUP && is_ignored(&status, signal) {
                continue;
            }
            // The order matters: the second SIGINT finds the flag set by the first.
            let watched = flag::register_conditional_shutdown(signal, 130, Arc::clone(ends))
                .and_then(|_| flag::register(signal, Arc::clone(&signals.received)))
                .and_then(|id| match signal {
                    SIGINT => flag::register(signal, Arc::clone(ends)),
                    _ => Ok(id),
                });
            if let Err(error) = watched {
                tracing::warn!(
                    "cannot watch for signal {signal}, which will end this process without saving: {error}"
                );
            }
        }
        signals
    }

    /// Returns whether a signal has come.
    pub(crate) fn received(&self) -> bool {
        self.received.load(Ordering::Relaxed)
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // Nobody checks for signals any more.
        for ends in &self.ends {
            ends.store(true, Ordering::Relaxed);
        }
    }
}

/// Returns whether the process whose `/proc/PID/status` is `status` ignores `signal`.
fn is_ignored(status: &str, signal: c_int) -> bool {
    let ignored = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_status_of_the_process() {
        // As under `nohup`.
        let status = "Name:\tunderstudy\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\n";
        assert!(is_ignored(status, SIGHUP));
        assert!(!is_ignored(status, SIGUSR1) && !is_ignored("", SIGHUP));
    }
}
