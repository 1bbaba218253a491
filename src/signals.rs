//! SIGINT and SIGTERM ask for an orderly end, after which the same command goes on; a second SIGINT
//! ends at once.
//!
//! A second SIGTERM does not: those who send it send it to the process and again to its group
//! (`timeout`, job schedulers), and follow with SIGKILL when they mean it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Whether a signal has come.
pub(crate) struct Signals {
    received: Arc<AtomicBool>,
    /// Whether the next signal of a kind ends the process.
    ends: [Arc<AtomicBool>; 2],
}

impl Signals {
    /// Watches from now on; once this value is dropped, a signal ends the process at once.
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
                    "signal {signal} cannot be watched and will end this process at once, with nothing saved: {error}"
                );
            }
        }
        signals
    }

    /// Whether one has come.
    pub(crate) fn received(&self) -> bool {
        self.received.load(Ordering::Relaxed)
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // Nobody asks any more.
        for ends in &self.ends {
            ends.store(true, Ordering::Relaxed);
        }
    }
}
