//! The concurrency limit of a store: raised while the store keeps up, halved when it is overloaded
//! (additive increase, multiplicative decrease), with a pause when the store asks for one.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Initial limit; the other two bound its adaptation.
pub(super) const FIRST_IN_FLIGHT: usize = 16;
const MOST_IN_FLIGHT: usize = 128;
const LEAST_IN_FLIGHT: usize = 1;
/// Overload errors within this time count once: requests sent together fail together.
const BURST: Duration = Duration::from_millis(500);

/// Adaptive limit of the requests in flight to one store.
#[derive(Debug)]
pub(super) struct ConcurrencyLimit {
    permits: Arc<Semaphore>,
    state: Mutex<LimitState>,
}

#[derive(Debug)]
struct LimitState {
    in_flight: usize,
    /// Permits to discard as they are returned.
    surplus: usize,
    succeeded: usize,
    lowered: Option<Instant>,
    paused_until: Option<Instant>,
}

impl ConcurrencyLimit {
    pub(super) fn new() -> Self {
        Self {
            permits: Arc::new(Semaphore::new(FIRST_IN_FLIGHT)),
            state: Mutex::new(LimitState {
                in_flight: FIRST_IN_FLIGHT,
                surplus: 0,
                succeeded: 0,
                lowered: None,
                paused_until: None,
            }),
        }
    }

    /// Waits for a permit, and for the end of a pause.
    pub(super) async fn acquire(&self) -> OwnedSemaphorePermit {
        loop {
            let permit = Arc::clone(&self.permits).acquire_owned().await;
            let permit = permit.expect("never closed");
            let pause = {
                let mut state = self.state();
                if state.surplus > 0 {
                    state.surplus -= 1;
                    permit.forget();
                    continue;
                }
                state.paused_until.take_if(|until| *until <= Instant::now());
                state.paused_until
            };
            if let Some(until) = pause {
                tokio::time::sleep_until(until.into()).await;
            }
            return permit;
        }
    }

    /// Delays all requests that have no permit yet by `pause`.
    pub(super) fn pause(&self, pause: Duration) {
        let until = Instant::now() + pause;
        let mut state = self.state();
        state.paused_until = state.paused_until.max(Some(until));
    }

    /// Counts a success. Raises the limit by one after as many successes as the limit, if all permits
    /// are in use.
    pub(super) fn succeeded(&self) {
        let mut state = self.state();
        state.succeeded += 1;
        let is_full = self.permits.available_permits() == 0;
        if state.succeeded >= state.in_flight && is_full && state.in_flight < MOST_IN_FLIGHT {
            state.succeeded = 0;
            state.in_flight += 1;
            if state.surplus > 0 {
                state.surplus -= 1;
            } else {
                self.permits.add_permits(1);
            }
        }
    }

    /// Halves the limit, once for each burst of errors.
    pub(super) fn decrease(&self) {
        let mut state = self.state();
        if state.lowered.is_some_and(|at| at.elapsed() < BURST) {
            return;
        }
        state.lowered = Some(Instant::now());
        state.succeeded = 0;
        let lower = (state.in_flight / 2).max(LEAST_IN_FLIGHT);
        state.surplus += state.in_flight - lower;
        state.in_flight = lower;
    }

    fn state(&self) -> std::sync::MutexGuard<'_, LimitState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limit_halves_once_per_burst_and_grows_by_one() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let limit = ConcurrencyLimit::new();
            limit.decrease();
            limit.decrease();
            assert_eq!(limit.state().in_flight, FIRST_IN_FLIGHT / 2);
            let mut taken = Vec::new();
            for _ in 0..FIRST_IN_FLIGHT / 2 {
                taken.push(limit.acquire().await);
            }
            let next = tokio::time::timeout(Duration::from_millis(20), limit.acquire()).await;
            assert!(next.is_err(), "the other half is discarded");
            for _ in 0..FIRST_IN_FLIGHT / 2 {
                limit.succeeded();
            }
            taken.push(limit.acquire().await);
            assert_eq!(limit.state().in_flight, FIRST_IN_FLIGHT / 2 + 1);
        });
    }
}
