//! The listener: accepts connections, and sees each to its end.
//!
//! Every connection is one task that cannot take another down: its panics end with it. This module decides
//! what happens when the server is full, out of file descriptors, or told to stop. What a session does is
//! the handler's.

use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use pgwire::messages::PgWireBackendMessage;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, Span, debug, error, field, info, info_span, warn};

use super::limits::HalfOpenPermit;
use super::pg::startup::{Authenticated, Door, Opened, startup};
use super::pg::stream::{PgStream, Severity, error_response};
use crate::error::{Error, Result};

/// How long to wait for file descriptors or memory to come free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A client that is gone without a word is noticed after this, and [`KEEPALIVE_PROBES`] times
/// [`KEEPALIVE_INTERVAL`].
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 4;
/// A wrong cancel key keeps its half-open place this long, so that keys are not guessed by the million.
const WRONG_KEY_PAUSE: Duration = Duration::from_secs(1);

/// Accepts connections until `shutdown` fires, and hands each that logs in to `handler`.
///
/// The handler gets a token that fires at the shutdown: it then ends what it does. Returns when all
/// sessions have ended, or cuts off those that are left after the door's `drain_max`.
pub async fn serve<H, F>(listener: TcpListener, door: Arc<Door>, shutdown: CancellationToken, handler: H)
where
    H: Fn(Authenticated, CancellationToken) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let tasks = TaskTracker::new();
    let cut_off = CancellationToken::new();
    while let Some((socket, peer)) = accept(&listener, &shutdown).await {
        let permit = match door.connections.half_open(peer.ip()) {
            Ok(permit) => permit,
            Err(refused) => {
                turn_away(&socket, peer, &refused);
                continue;
            }
        };
        let connection = Connection { socket, peer, permit, door: door.clone(), shutdown: shutdown.clone() };
        let span = info_span!("connection", %peer, user = field::Empty);
        let task = guarded(connection.run(handler.clone())).instrument(span);
        tasks.spawn(cut_off.clone().run_until_cancelled_owned(task));
    }
    drop(listener);
    tasks.close();
    if timeout(door.drain_max, tasks.wait()).await.is_err() {
        warn!(sessions = door.connections.sessions(), "drain took too long, sessions are cut off");
        cut_off.cancel();
        tasks.wait().await;
    }
}

/// Waits for the next connection; `None` at the shutdown. Errors do not end it.
async fn accept(listener: &TcpListener, shutdown: &CancellationToken) -> Option<(TcpStream, SocketAddr)> {
    loop {
        match shutdown.run_until_cancelled(listener.accept()).await? {
            Ok(accepted) => return Some(accepted),
            Err(error) if is_the_clients(&error) => debug!(%error, "connection ended before it was accepted"),
            Err(error) => {
                // No file descriptors or no memory: the next try would fail as well.
                warn!(%error, "connection not accepted, waiting");
                shutdown.run_until_cancelled(sleep(ACCEPT_PAUSE)).await?;
            }
        }
    }
}

fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Says no in one write that does not wait, so that a flood costs no tasks.
fn turn_away(socket: &TcpStream, peer: SocketAddr, refused: &Error) {
    debug!(%peer, %refused, "connection turned away");
    let mut message = BytesMut::new();
    let response =
        PgWireBackendMessage::ErrorResponse(error_response(Severity::Fatal, refused, refused.to_string()));
    if response.encode(&mut message).is_ok() {
        // Whether it arrives is the client's luck; the connection is closed either way.
        let _ = SockRef::from(socket).send(&message);
    }
}

/// Runs a connection so that its panic ends with it.
async fn guarded(connection: impl Future<Output = ()>) {
    if let Err(panic) = AssertUnwindSafe(connection).catch_unwind().await {
        let message = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned());
        error!(panic = message.unwrap_or_default(), "connection panicked");
    }
}

struct Connection {
    socket: TcpStream,
    peer: SocketAddr,
    permit: HalfOpenPermit,
    door: Arc<Door>,
    shutdown: CancellationToken,
}

impl Connection {
    async fn run<H, F>(self, handler: H)
    where
        H: Fn(Authenticated, CancellationToken) -> F,
        F: Future<Output = ()>,
    {
        let Self { socket, peer, permit, door, shutdown } = self;
        set_options(&socket);
        // On the heap, each for as long as it lasts: a session that is idle has no room for a handshake.
        let startup = Box::pin(startup(socket, peer, &door));
        let Some(opened) = shutdown.run_until_cancelled(startup).await else { return };
        match opened {
            Ok(Opened::Session(session)) => {
                drop(permit);
                Span::current().record("user", field::debug(session.identity.user()));
                debug!("session begins");
                Box::pin(handler(*session, shutdown)).await;
            }
            Ok(Opened::Cancel { process_id, secret, stream }) => {
                cancel(&door, process_id, secret, *stream).await;
            }
            Ok(Opened::Closed) => debug!("connection closed before it began"),
            Err(error) => log_refused(&error),
        }
    }
}

async fn cancel(door: &Door, process_id: i32, secret: Bytes, stream: PgStream) {
    let known = door.cancel_keys.cancel(process_id, &secret);
    // Right or wrong, the client sees the same end; one that is gone needs none.
    stream.close().await.ok();
    match known {
        true => debug!(process_id, "cancel request"),
        false => {
            info!(process_id, "cancel request with a wrong key");
            sleep(WRONG_KEY_PAUSE).await;
        }
    }
}

/// The reason is logged escaped: parts of it, such as the user's name, are the client's.
fn log_refused(error: &Error) {
    let (sqlstate, reason) = (error.sqlstate(), error.to_string());
    match error {
        Error::ConnectionLost(_) => debug!(sqlstate, ?reason, "connection lost before it began"),
        Error::Internal(_) => error!(sqlstate, ?reason, "connection refused"),
        _ => info!(sqlstate, ?reason, "connection refused"),
    }
}

/// Sends small answers at once, and notices a client whose machine is gone.
fn set_options(socket: &TcpStream) {
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    let set: Result<(), io::Error> =
        socket.set_nodelay(true).and_then(|()| SockRef::from(socket).set_tcp_keepalive(&keepalive));
    if let Err(error) = set {
        debug!(%error, "socket options not set");
    }
}
