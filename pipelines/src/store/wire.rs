//! Each HTTP request on its way: how many at once, how long a silence may last, and what came back.
//!
//! `object_store`'s clients speak through [`Wire`]. It turns answers that say "later" (408, 429, 5xx)
//! into errors, which `object_store` repeats a few times and `steady.rs` as long as it takes; sends
//! nothing for as long as the store asks for (`Retry-After`); ends requests on which nothing moves;
//! and holds fewer requests in flight when the store is overloaded, more when it keeps up (additive
//! increase, multiplicative decrease).

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::{StatusCode, header::RETRY_AFTER};
use http_body::{Body, Frame, SizeHint};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService, ReqwestConnector,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

/// Requests in flight at first, and the bounds that adaption moves in.
const FIRST_IN_FLIGHT: usize = 16;
const MOST_IN_FLIGHT: usize = 128;
const LEAST_IN_FLIGHT: usize = 1;
/// One burst of refusals counts as one: the answers to requests of the same moment come together.
const BURST: Duration = Duration::from_millis(500);
/// An upload slower than this is as good as dead.
const LEAST_UPLOAD_BYTES_PER_SEC: u64 = 64 << 10;
/// The longest pause that a store may ask for.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// Fewer bytes within a stall's time are none.
const LEAST_MOVE: usize = 1 << 10;
/// Kept of the words of a refusal.
const MAX_WORDS: usize = 500;

/// What went over the wire to one store.
#[derive(Debug, Default)]
pub struct Traffic {
    pub(super) requests: AtomicU64,
    pub(super) answers: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) refusals: AtomicU64,
    pub(super) silences: AtomicU64,
    pub(super) repeats: AtomicU64,
    pub(super) hedges: AtomicU64,
}

/// [`Traffic`] at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct TrafficCounts {
    /// HTTP requests sent.
    pub requests: u64,
    /// Bytes of answers received.
    pub bytes: u64,
    /// Answers that said "later": 408, 429 and 5xx.
    pub refusals: u64,
    /// Requests given up because nothing moved.
    pub silences: u64,
    /// Operations tried again.
    pub repeats: u64,
    /// Reads sent a second time because the first was slow.
    pub hedges: u64,
    /// Ranges that the local cache had.
    pub cache_hits: u64,
    /// Ranges that it did not have.
    pub cache_misses: u64,
}

impl TrafficCounts {
    /// Combines two counts, number by number.
    #[must_use]
    pub(crate) fn with(self, other: Self, f: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            requests: f(self.requests, other.requests),
            bytes: f(self.bytes, other.bytes),
            refusals: f(self.refusals, other.refusals),
            silences: f(self.silences, other.silences),
            repeats: f(self.repeats, other.repeats),
            hedges: f(self.hedges, other.hedges),
            cache_hits: f(self.cache_hits, other.cache_hits),
            cache_misses: f(self.cache_misses, other.cache_misses),
        }
    }
}

impl Traffic {
    /// What went over the wire so far.
    pub fn counts(&self) -> TrafficCounts {
        TrafficCounts {
            requests: self.requests.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            refusals: self.refusals.load(Relaxed),
            silences: self.silences.load(Relaxed),
            repeats: self.repeats.load(Relaxed),
            hedges: self.hedges.load(Relaxed),
            cache_hits: 0,
            cache_misses: 0,
        }
    }
}

/// A request that may be worth repeating.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("the store answered {status}{}{words}", if .words.is_empty() { "" } else { ": " })]
    Refused { status: StatusCode, words: String },
    #[error("nothing came for {} s", .0.as_secs_f64())]
    Silent(Duration),
}

/// Makes the clients of one store, which share their limits and counts.
#[derive(Debug, Clone)]
pub(super) struct Wires {
    pub(super) traffic: Arc<Traffic>,
    stall_after: Duration,
    flight: Arc<Flight>,
}

impl Wires {
    pub(super) fn new(stall_after: Duration) -> Self {
        Self {
            traffic: Arc::default(),
            stall_after,
            flight: Arc::new(Flight::new()),
        }
    }

    pub(super) fn wrap(&self, client: HttpClient) -> HttpClient {
        HttpClient::new(Wire {
            client,
            wires: self.clone(),
        })
    }
}

impl HttpConnector for Wires {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(self.wrap(ReqwestConnector::default().connect(options)?))
    }
}

#[derive(Debug)]
struct Wire {
    client: HttpClient,
    wires: Wires,
}

#[async_trait]
impl HttpService for Wire {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let Wires {
            traffic,
            stall_after,
            flight,
        } = &self.wires;
        let permit = flight.take().await;
        traffic.requests.fetch_add(1, Relaxed);
        let upload_secs = request.body().content_length() as u64 / LEAST_UPLOAD_BYTES_PER_SEC;
        let patience = *stall_after + Duration::from_secs(upload_secs);
        let answer = tokio::time::timeout(patience, self.client.execute(request)).await;
        let response = answer.unwrap_or_else(|_elapsed| Err(self.silence(patience)))?;
        traffic.answers.fetch_add(1, Relaxed);

        let status = response.status();
        if is_later(status) {
            traffic.refusals.fetch_add(1, Relaxed);
            flight.refused();
            if let Some(pause) = retry_after(&response) {
                flight.pause(pause.min(LONGEST_PAUSE));
            }
            let body = tokio::time::timeout(*stall_after, response.into_body().bytes()).await;
            // The words only explain; without them the status has to do.
            let words = body.ok().and_then(Result::ok).unwrap_or_default();
            let words = String::from_utf8_lossy(&words[..words.len().min(MAX_WORDS)]);
            let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
            // Of this kind object_store repeats all requests, uploads too: doing one twice
            // does no harm.
            let fault = Fault::Refused { status, words };
            return Err(HttpError::new(HttpErrorKind::Request, fault));
        }
        let (parts, body) = response.into_parts();
        let body = Watched {
            body,
            wires: self.wires.clone(),
            waiting: None,
            moved: 0,
            permit: Some(permit),
        };
        Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body)))
    }
}

impl Wire {
    fn silence(&self, patience: Duration) -> HttpError {
        self.wires.traffic.silences.fetch_add(1, Relaxed);
        self.wires.flight.refused();
        HttpError::new(HttpErrorKind::Timeout, Fault::Silent(patience))
    }
}

/// Whether the same request may succeed later.
fn is_later(status: StatusCode) -> bool {
    let later = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
    let never = [
        StatusCode::NOT_IMPLEMENTED,
        StatusCode::HTTP_VERSION_NOT_SUPPORTED,
    ];
    later.contains(&status) || status.is_server_error() && !never.contains(&status)
}

/// The wait in seconds that the server asks for. Dates, its other form, stores do not use.
fn retry_after(response: &HttpResponse) -> Option<Duration> {
    let value = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

/// A body on which something must move.
struct Watched {
    body: HttpResponseBody,
    wires: Wires,
    /// Since the reader last found nothing; a reader that does not ask is not a silence.
    waiting: Option<Pin<Box<Sleep>>>,
    /// Bytes since then: a trickle is a silence too.
    moved: usize,
    /// Given back when the body ends or breaks, and not when it is dropped: a reader that goes on
    /// with another request still holds the broken one's body.
    permit: Option<OwnedSemaphorePermit>,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            match &frame {
                Some(Ok(frame)) => {
                    let bytes = frame.data_ref().map_or(0, Bytes::len);
                    this.wires.traffic.bytes.fetch_add(bytes as u64, Relaxed);
                    this.moved += bytes;
                    if this.moved >= LEAST_MOVE {
                        (this.waiting, this.moved) = (None, 0);
                    }
                }
                None => {
                    this.wires.flight.served();
                    this.permit = None;
                }
                Some(Err(_)) => this.permit = None,
            }
            return Poll::Ready(frame);
        }
        let stall_after = this.wires.stall_after;
        let waiting = this
            .waiting
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(stall_after)));
        if waiting.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        this.wires.traffic.silences.fetch_add(1, Relaxed);
        this.wires.flight.refused();
        this.permit = None;
        let fault = HttpError::new(HttpErrorKind::Timeout, Fault::Silent(stall_after));
        Poll::Ready(Some(Err(fault)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// How many requests are in flight at most, as the store takes it.
#[derive(Debug)]
struct Flight {
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
    fn new() -> Self {
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

    async fn take(&self) -> OwnedSemaphorePermit {
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
    fn pause(&self, pause: Duration) {
        let until = Instant::now() + pause;
        let mut limit = self.limit();
        limit.paused_until = limit.paused_until.max(Some(until));
    }

    /// One more after as many answers as there are requests in flight, if all are in use.
    fn served(&self) {
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
    fn refused(&self) {
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
    use object_store::client::HttpRequestBody;

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

    #[test]
    fn a_refusal_is_what_may_pass() {
        for status in [408, 429, 500, 502, 503, 504] {
            assert!(is_later(StatusCode::from_u16(status).expect("a status")));
        }
        for status in [200, 206, 301, 400, 401, 403, 404, 412, 416, 501] {
            assert!(!is_later(StatusCode::from_u16(status).expect("a status")));
        }
    }

    /// Answers with a body that breaks at once.
    #[derive(Debug)]
    struct Breaks;

    #[async_trait]
    impl HttpService for Breaks {
        async fn call(&self, _: HttpRequest) -> Result<HttpResponse, HttpError> {
            Ok(HttpResponse::new(HttpResponseBody::new(Broken)))
        }
    }

    struct Broken;

    impl Body for Broken {
        type Data = Bytes;
        type Error = HttpError;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
            let fault = Fault::Silent(Duration::ZERO);
            Poll::Ready(Some(Err(HttpError::new(HttpErrorKind::Interrupted, fault))))
        }
    }

    #[test]
    fn a_broken_body_that_is_still_held_leaves_room_for_the_next_request() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let wires = Wires::new(Duration::from_secs(5));
            let client = wires.wrap(HttpClient::new(Breaks));
            let request = || {
                let mut request = HttpRequest::new(HttpRequestBody::empty());
                *request.uri_mut() = http::Uri::from_static("http://store/object");
                request
            };
            // As many as may be in flight, all broken, as object_store holds them when it goes on.
            let mut held = Vec::new();
            for _ in 0..FIRST_IN_FLIGHT {
                let mut body = client.execute(request()).await.expect("a body").into_body();
                let frame = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context));
                assert!(frame.await.is_some_and(|frame| frame.is_err()));
                held.push(body);
            }
            let next = tokio::time::timeout(Duration::from_secs(5), client.execute(request()));
            assert!(next.await.is_ok(), "all permits lie in broken bodies");
            drop(held);
        });
    }
}
