//! An HTTP client with a concurrency limit, timeouts and counters, for the clients of `object_store`.
//!
//! [`LimitedClient`] turns the statuses 408, 429 and 5xx into errors, which `object_store` retries a
//! few times and `retry.rs` until its time is over. It waits as long as the store asks for
//! (`Retry-After`), aborts requests that make no progress, and keeps to the concurrency limit
//! (`concurrency.rs`).

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{StatusCode, header::RETRY_AFTER};
use http_body::{Body, Frame, SizeHint};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService, ReqwestConnector,
};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;

use super::concurrency::ConcurrencyLimit;
use super::traffic::Traffic;

/// Minimum speed of an upload; a slower one is aborted.
const LEAST_UPLOAD_BYTES_PER_SEC: u64 = 64 << 10;
/// Maximum pause that is accepted from `Retry-After`.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// Fewer bytes than this within `stall_after` do not count as progress.
const LEAST_PROGRESS_BYTES: usize = 1 << 10;
/// Maximum length of the body of an error response that is kept, in bytes.
const MAX_MESSAGE_BYTES: usize = 500;

/// A failure that is worth a retry.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("the store answered {status}{}{message}", if .message.is_empty() { "" } else { ": " })]
    Refused { status: StatusCode, message: String },
    #[error("timed out: no data for {} s", .0.as_secs_f64())]
    Stalled(Duration),
}

/// Makes the clients of one store, which share the concurrency limit and the counters.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    pub(super) traffic: Arc<Traffic>,
    stall_after: Duration,
    limit: Arc<ConcurrencyLimit>,
}

impl Connector {
    pub(super) fn new(stall_after: Duration) -> Self {
        Self {
            traffic: Arc::default(),
            stall_after,
            limit: Arc::new(ConcurrencyLimit::new()),
        }
    }

    pub(super) fn wrap(&self, client: HttpClient) -> HttpClient {
        HttpClient::new(LimitedClient {
            client,
            connector: self.clone(),
        })
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(self.wrap(ReqwestConnector::default().connect(options)?))
    }
}

struct LimitedClient {
    client: HttpClient,
    connector: Connector,
}

/// Written by hand: the client knows the password of a proxy.
impl fmt::Debug for LimitedClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LimitedClient")
    }
}

#[async_trait]
impl HttpService for LimitedClient {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let Connector {
            traffic,
            stall_after,
            limit,
        } = &self.connector;
        let permit = limit.acquire().await;
        traffic.requests.fetch_add(1, Relaxed);
        let upload_secs = request.body().content_length() as u64 / LEAST_UPLOAD_BYTES_PER_SEC;
        let timeout = *stall_after + Duration::from_secs(upload_secs);
        let answer = tokio::time::timeout(timeout, self.client.execute(request)).await;
        let response = answer.unwrap_or_else(|_elapsed| Err(self.timed_out(timeout)))?;
        traffic.answers.fetch_add(1, Relaxed);

        let status = response.status();
        if is_transient(status) {
            traffic.refusals.fetch_add(1, Relaxed);
            limit.decrease();
            if let Some(pause) = retry_after(&response) {
                limit.pause(pause.min(LONGEST_PAUSE));
            }
            let body = tokio::time::timeout(*stall_after, response.into_body().bytes()).await;
            // The body only explains the status; it may be missing.
            let text = body.ok().and_then(Result::ok).unwrap_or_default();
            let text = String::from_utf8_lossy(&text[..text.len().min(MAX_MESSAGE_BYTES)]);
            let message = text.split_whitespace().collect::<Vec<_>>().join(" ");
            // object_store retries all requests with an error of this kind, uploads too: each of
            // them can be repeated safely.
            let fault = Fault::Refused { status, message };
            return Err(HttpError::new(HttpErrorKind::Request, fault));
        }
        let (parts, body) = response.into_parts();
        let body = WatchedBody {
            body,
            connector: self.connector.clone(),
            waiting: None,
            received: 0,
            permit: Some(permit),
        };
        Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body)))
    }
}

impl LimitedClient {
    fn timed_out(&self, timeout: Duration) -> HttpError {
        self.connector.traffic.timeouts.fetch_add(1, Relaxed);
        self.connector.limit.decrease();
        HttpError::new(HttpErrorKind::Timeout, Fault::Stalled(timeout))
    }
}

/// Returns whether a request with this status may succeed when it is retried.
fn is_transient(status: StatusCode) -> bool {
    let later = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
    let never = [
        StatusCode::NOT_IMPLEMENTED,
        StatusCode::HTTP_VERSION_NOT_SUPPORTED,
    ];
    later.contains(&status) || status.is_server_error() && !never.contains(&status)
}

/// Returns the pause that the server asks for, in seconds. Stores do not use the form with a date.
fn retry_after(response: &HttpResponse) -> Option<Duration> {
    let value = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

/// A response body with a timeout for its progress.
struct WatchedBody {
    body: HttpResponseBody,
    connector: Connector,
    /// Timer since the reader first found no data; a reader that does not poll starts no timer.
    waiting: Option<Pin<Box<Sleep>>>,
    /// Bytes since then: a few bytes do not count as progress.
    received: usize,
    /// Returned when the body ends or fails, before it is dropped: a reader that continues with
    /// another request still holds the body that failed.
    permit: Option<OwnedSemaphorePermit>,
}

impl Body for WatchedBody {
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
                    this.connector
                        .traffic
                        .bytes
                        .fetch_add(bytes as u64, Relaxed);
                    this.received += bytes;
                    if this.received >= LEAST_PROGRESS_BYTES {
                        (this.waiting, this.received) = (None, 0);
                    }
                }
                None => {
                    this.connector.limit.succeeded();
                    this.permit = None;
                }
                Some(Err(_)) => this.permit = None,
            }
            return Poll::Ready(frame);
        }
        let stall_after = this.connector.stall_after;
        let waiting = this
            .waiting
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(stall_after)));
        if waiting.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        this.connector.traffic.timeouts.fetch_add(1, Relaxed);
        this.connector.limit.decrease();
        this.permit = None;
        let fault = HttpError::new(HttpErrorKind::Timeout, Fault::Stalled(stall_after));
        Poll::Ready(Some(Err(fault)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use object_store::client::HttpRequestBody;

    use super::super::concurrency::FIRST_IN_FLIGHT;
    use super::*;

    #[test]
    fn statuses_worth_a_retry_are_transient() {
        for status in [408, 429, 500, 502, 503, 504] {
            assert!(is_transient(
                StatusCode::from_u16(status).expect("a status")
            ));
        }
        for status in [200, 206, 301, 400, 401, 403, 404, 412, 416, 501] {
            assert!(!is_transient(
                StatusCode::from_u16(status).expect("a status")
            ));
        }
    }

    /// Answers with a body that fails at once.
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
            let fault = Fault::Stalled(Duration::ZERO);
            Poll::Ready(Some(Err(HttpError::new(HttpErrorKind::Interrupted, fault))))
        }
    }

    #[test]
    fn failed_body_returns_its_permit_before_it_is_dropped() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let connector = Connector::new(Duration::from_secs(5));
            let client = connector.wrap(HttpClient::new(Breaks));
            let request = || {
                let mut request = HttpRequest::new(HttpRequestBody::empty());
                *request.uri_mut() = http::Uri::from_static("http://store/object");
                request
            };
            // As many as can be in flight, all failed, as object_store holds them when it continues.
            let mut held = Vec::new();
            for _ in 0..FIRST_IN_FLIGHT {
                let mut body = client.execute(request()).await.expect("a body").into_body();
                let frame = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context));
                assert!(frame.await.is_some_and(|frame| frame.is_err()));
                held.push(body);
            }
            let next = tokio::time::timeout(Duration::from_secs(5), client.execute(request()));
            assert!(next.await.is_ok(), "failed bodies hold all permits");
            drop(held);
        });
    }
}
