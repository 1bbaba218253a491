//! How many requests to a store are in flight: fewer when it is overloaded, more when it keeps up
//! (additive increase, multiplicative decrease), and none for as long as it asks for.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Requests in flight at first, and the bounds that adaption moves in.
pub(super) const FIRST_IN_FLIGHT: usize = 16;
const MOST_IN_FLIGHT: usize = 128;
const LEAST_IN_FLIGHT: usize = 1;
/// One burst of refusals counts as one: the answers to requests of the same moment come together.
const BURST: Duration = Duration::from_millis(500);
/// How many requests are in flight at most, as the store takes it.
#[derive(Debug)]
pub(super) struct Flight {
    permits: Arc<Semaphore>,
    limit: Mutex<Limit>,
}

#[derive(Debug)]
struct Limit {
    in_flight: usize,
    /// Permits to take out of circulation as they come back.
    surplus: usize,
    served: usize,
    lowered: Option<Instant>,
    paused_until: Option<Instant>,
}

impl Flight {
    pub(super) fn new() -> Self {
        Self {
            permits: Arc::new(Semaphore::new(FIRST_IN_FLIGHT)),
            limit: Mutex::new(Limit {
                in_flight: FIRST_IN_FLIGHT,
                surplus: 0,
                served: 0,
                lowered: None,
                paused_until: None,
            }),
        }
    }

    pub(super) async fn take(&self) -> OwnedSemaphorePermit {
        loop {
            let permit = Arc::clone(&self.permits).acquire_owned().await;
            let permit = permit.expect("never closed");
            let pause = {
                let mut limit = self.limit();
                if limit.surplus > 0 {
                    limit.surplus -= 1;
                    permit.forget();
                    continue;
                }
                limit.paused_until.take_if(|until| *until <= Instant::now());
                limit.paused_until
            };
            if let Some(until) = pause {
                tokio::time::sleep_until(until.into()).await;
            }
            return permit;
        }
    }

    /// Sends nothing for so long.
    pub(super) fn pause(&self, pause: Duration) {
        let until = Instant::now() + pause;
        let mut limit = self.limit();
        limit.paused_until = limit.paused_until.max(Some(until));
    }

    /// One more after as many answers as there are requests in flight, if all are in use.
    pub(super) fn served(&self) {
        let mut limit = self.limit();
        limit.served += 1;
        let is_full = self.permits.available_permits() == 0;
        if limit.served >= limit.in_flight && is_full && limit.in_flight < MOST_IN_FLIGHT {
            limit.served = 0;
            limit.in_flight += 1;
            if limit.surplus > 0 {
                limit.surplus -= 1;
            } else {
                self.permits.add_permits(1);
            }
        }
    }

    /// Half as many, once for each burst.
    pub(super) fn refused(&self) {
        let mut limit = self.limit();
        if limit.lowered.is_some_and(|at| at.elapsed() < BURST) {
            return;
        }
        limit.lowered = Some(Instant::now());
        limit.served = 0;
        let lower = (limit.in_flight / 2).max(LEAST_IN_FLIGHT);
        limit.surplus += limit.in_flight - lower;
        limit.in_flight = lower;
    }

    fn limit(&self) -> std::sync::MutexGuard<'_, Limit> {
        self.limit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_halves_once_a_burst_and_grows_by_one() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let flight = Flight::new();
            flight.refused();
            flight.refused();
            assert_eq!(flight.limit().in_flight, FIRST_IN_FLIGHT / 2);
            let mut taken = Vec::new();
            for _ in 0..FIRST_IN_FLIGHT / 2 {
                taken.push(flight.take().await);
            }
            let next = tokio::time::timeout(Duration::from_millis(20), flight.take()).await;
            assert!(next.is_err(), "the other half is out of circulation");
            for _ in 0..FIRST_IN_FLIGHT / 2 {
                flight.served();
            }
            taken.push(flight.take().await);
            assert_eq!(flight.limit().in_flight, FIRST_IN_FLIGHT / 2 + 1);
        });
    }
}
