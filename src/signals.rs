//! SIGINT and SIGTERM ask a command to save its work and exit, so that the same command resumes. A
//! second SIGINT ends the process at once.
//!
//! A second SIGTERM does not: `timeout` and job schedulers send it to the process and again to its
//! group, and SIGKILL later.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Watches for SIGINT and SIGTERM.
pub(crate) struct Signals {
    received: Arc<AtomicBool>,
    /// Whether the next SIGINT or SIGTERM ends the process.
    ends: [Arc<AtomicBool>; 2],
}

impl Signals {
    /// Starts watching; after this value is dropped, a signal ends the process at once.
    pub(crate) fn watch() -> Self {
        let signals = Self {
            received: Arc::default(),
            ends: [Arc::default(), Arc::default()],
        };
        for (signal, ends) in [SIGINT, SIGTERM].into_iter().zip(&signals.ends) {
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
