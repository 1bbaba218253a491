//! SIGINT and SIGTERM ask for an orderly end, after which the same command goes on; a second SIGINT ends at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Whether a signal has come.
pub(crate) struct Signals {
    received: Arc<AtomicBool>,
}

impl Signals {
    /// Watches from now on; once this value is dropped, a signal ends the process at once.
    pub(crate) fn watch() -> Self {
        let received = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // The order matters: the second signal finds the flag set by the first.
            let watched = flag::register_conditional_shutdown(signal, 130, Arc::clone(&received))
                .and_then(|_| flag::register(signal, Arc::clone(&received)));
            if let Err(error) = watched {
                tracing::warn!(
                    "signal {signal} cannot be watched and will end this process at once, with nothing saved: {error}"
                );
            }
        }
        Self { received }
    }

    /// Whether one has come.
    pub(crate) fn received(&self) -> bool {
        self.received.load(Ordering::Relaxed)
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // Nobody asks any more: the next signal is as a second one.
        self.received.store(true, Ordering::Relaxed);
    }
}
