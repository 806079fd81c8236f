//! HTTP: how requests to remote stores run, how long they wait, and how often they are repeated.
//!
//! Requests run on the I/O runtime, whoever asks for them, so that a busy CPU runtime neither delays
//! them nor lets them run into a timeout. Signing and repeating stay with `object_store`.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
    HttpService, ReqwestConnector,
};
use object_store::{BackoffConfig, ClientOptions, RetryConfig};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use url::{Host, Url};

use crate::error::{Error, Result};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection on which nothing moves for this long is given up.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// An upload may take as long as a link of this speed needs, besides the idle time.
const UPLOAD_BYTES_PER_SECOND: usize = 128 * 1024;
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
const POOL_IDLE_MAX: usize = 64;
/// Pieces of a response that wait for their reader (at most 512 KiB each); then the connection waits.
const FRAMES_MAX: usize = 16;

/// Repeats of a request: after 5xx, 429, a lost connection, and after a timeout where that is harmless.
/// With the pauses, a store that answers only 503 is given up after about half a minute.
pub(super) fn patient() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(5),
            base: 2.0,
        },
        max_retries: 8,
        retry_timeout: Duration::from_secs(180),
    }
}

/// Each request is sent once, so that its answer is about itself.
pub(super) fn once() -> RetryConfig {
    RetryConfig { max_retries: 0, ..patient() }
}

/// Timeouts and pool of a client that talks to `endpoint` (none: the provider's own hosts).
pub(super) fn client_options(endpoint: Option<&Url>) -> ClientOptions {
    let options = ClientOptions::new()
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_timeout_disabled() // Replaced by idle times, see `transfer`.
        .with_pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .with_pool_max_idle_per_host(POOL_IDLE_MAX)
        .with_allow_http(endpoint.is_some_and(|url| url.scheme() == "http"));
    match endpoint {
        Some(url) if is_loopback(url) => without_proxy(options),
        _ => options,
    }
}

/// Keeps `HTTP_PROXY` and its like away from hosts that no proxy can reach.
///
/// The client has no switch for it; an explicit proxy takes the place of those in the environment, and
/// this one applies to no host at all.
pub(super) fn without_proxy(options: ClientOptions) -> ClientOptions {
    options.with_proxy_url("http://127.0.0.1:9").with_proxy_excludes("*,0.0.0.0/0,::/0")
}

/// Checks the URL of a service.
///
/// # Errors
/// [`Error::Config`] when it is no URL, carries credentials, or is plain http to another host although
/// `allow_http` is not set.
pub(super) fn endpoint(text: &str, allow_http: bool) -> Result<Url> {
    let url = Url::parse(text.trim()).map_err(|error| {
        Error::Config(format!("an endpoint must be a URL such as https://host:port: {error}"))
    })?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Error::Config("an endpoint must not contain a user or a password".to_owned()));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if allow_http || is_loopback(&url) => Ok(url),
        "http" => Err(Error::Config(format!(
            "endpoint \"{url}\" is plain http to another host: use https, or set allow_http = true"
        ))),
        other => Err(Error::Config(format!("endpoint \"{url}\" is neither http nor https but {other}"))),
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}

/// Finds the status in the message of an error of `object_store`, whose type that holds it is private.
pub(super) fn status_in(message: &str) -> Option<u16> {
    message.split("status code: ").nth(1)?.get(..3)?.parse().ok()
}

/// Makes clients whose requests run on the I/O runtime.
#[derive(Debug, Clone)]
pub(super) struct IoConnector(pub Handle);

impl HttpConnector for IoConnector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(IoService { client, io: self.0.clone() }))
    }
}

#[derive(Debug)]
struct IoService {
    client: HttpClient,
    io: Handle,
}

#[async_trait]
impl HttpService for IoService {
    /// Dropping the future, or later the response, ends the request and closes its connection.
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (answer, answered) = oneshot::channel();
        self.io.spawn(transfer(self.client.clone(), request, answer));
        answered.await.unwrap_or_else(|_| Err(interrupted("the I/O runtime has stopped")))
    }
}

type Answer = oneshot::Sender<Result<HttpResponse, HttpError>>;
type Piece = Option<Result<Frame<Bytes>, HttpError>>;

/// Sends `request`, hands out its head as `answer`, then moves its body.
async fn transfer(client: HttpClient, request: HttpRequest, mut answer: Answer) {
    let upload = request.body().content_length() / UPLOAD_BYTES_PER_SECOND;
    let patience = IDLE_TIMEOUT + Duration::from_secs(upload as u64);
    let response = tokio::select! {
        () = answer.closed() => return,
        done = tokio::time::timeout(patience, client.execute(request)) => done,
    };
    let response = match response {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => return drop(answer.send(Err(error))),
        Err(_) => return drop(answer.send(Err(timed_out("no answer", patience)))),
    };
    let (head, body) = response.into_parts();
    let (pieces, received) = mpsc::channel(FRAMES_MAX);
    let outside = MovedBody { pieces: received, ended: false, size: body.size_hint() };
    if answer.send(Ok(HttpResponse::from_parts(head, HttpResponseBody::new(outside)))).is_ok() {
        move_body(body, pieces).await;
    }
}

/// Moves a body piece by piece; a slow reader slows the connection, and costs no timeout.
async fn move_body(mut body: HttpResponseBody, pieces: mpsc::Sender<Piece>) {
    loop {
        let next = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context));
        let piece = tokio::select! {
            () = pieces.closed() => return,
            piece = tokio::time::timeout(IDLE_TIMEOUT, next) => piece,
        };
        let piece = piece.unwrap_or_else(|_| Some(Err(timed_out("no more data", IDLE_TIMEOUT))));
        let last = !matches!(piece, Some(Ok(_)));
        if pieces.send(piece).await.is_err() || last {
            return;
        }
    }
}

/// A body that arrives from another runtime.
struct MovedBody {
    pieces: mpsc::Receiver<Piece>,
    /// The end, or an error, was received.
    ended: bool,
    size: SizeHint,
}

impl Body for MovedBody {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        // A channel that closes without an end is a runtime that stopped, not a short body.
        let piece = match std::task::ready!(self.pieces.poll_recv(context)) {
            Some(piece) => piece,
            None => Some(Err(interrupted("the I/O runtime has stopped"))),
        };
        self.ended = !matches!(piece, Some(Ok(_)));
        Poll::Ready(piece)
    }

    fn size_hint(&self) -> SizeHint {
        self.size
    }
}

/// Why a request was given up on this side.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct GivenUp(String);

fn interrupted(reason: &str) -> HttpError {
    HttpError::new(HttpErrorKind::Interrupted, GivenUp(reason.to_owned()))
}

fn timed_out(what: &str, limit: Duration) -> HttpError {
    HttpError::new(HttpErrorKind::Timeout, GivenUp(format!("{what} within {} s", limit.as_secs())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_this_host_unless_allowed() {
        for local in
            ["http://127.0.0.1:9000", "http://localhost:9000", "http://[::1]:9000", "https://s3.corp"]
        {
            assert!(endpoint(local, false).is_ok(), "{local}");
        }
        let error = endpoint("http://minio.corp:9000", false).unwrap_err().to_string();
        assert!(error.contains("allow_http"), "{error}");
        assert!(endpoint("http://minio.corp:9000", true).is_ok());
        assert!(endpoint("ftp://minio.corp", true).is_err());
    }

    #[test]
    fn an_endpoint_with_a_password_is_refused_without_showing_it() {
        let error = endpoint("https://user:hunter2@s3.corp", false).unwrap_err().to_string();
        assert!(error.contains("must not contain") && !error.contains("hunter2"), "{error}");
    }

    #[tokio::test]
    async fn a_body_that_just_stops_is_an_error() {
        let (pieces, received) = mpsc::channel(2);
        pieces.send(Some(Ok(Frame::data(Bytes::from_static(b"half"))))).await.unwrap();
        drop(pieces);
        let body =
            HttpResponseBody::new(MovedBody { pieces: received, ended: false, size: SizeHint::default() });
        assert_eq!(body.bytes().await.unwrap_err().kind(), HttpErrorKind::Interrupted);
    }
}
