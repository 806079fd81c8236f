//! Connections of the HTTP port: accepted, encrypted where the client asks for it, and seen to their end.
//!
//! A connection that begins with a TLS handshake gets TLS, with the certificate of the PostgreSQL port;
//! any other is plain. How many there may be is bounded, in all and from one address, and so is the
//! time that a client takes for the head of a request. What a request may cost is the handlers' matter.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::server::limits::{ConnectionLimits, Connections, HalfOpenPermit};
use crate::server::pg::startup::Door;

/// The first byte of a TLS handshake; no request begins with it.
const TLS_HANDSHAKE: u8 = 0x16;
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// For the head of a request, and for the pause between two.
const HEAD_MAX: Duration = Duration::from_secs(60);
/// How long to wait for file descriptors or memory to come free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who sends a request, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    pub address: SocketAddr,
    pub is_encrypted: bool,
}

/// Serves `router` until `shutdown` fires, and then what is under way, at most the door's `drain_max`.
pub(super) async fn serve(listener: TcpListener, door: &Door, router: Router, shutdown: CancellationToken) {
    let tls = door.tls.as_ref().map(speaks_http);
    let connections = Connections::new(ConnectionLimits::default());
    let tasks = TaskTracker::new();
    while let Some(accepted) = shutdown.run_until_cancelled(listener.accept()).await {
        let (socket, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                debug!(%error, "HTTP connection not accepted");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        match connections.half_open(address.ip()) {
            Ok(permit) => {
                let connection = run(socket, address, tls.clone(), router.clone(), shutdown.clone(), permit);
                tasks.spawn(connection);
            }
            Err(refused) => debug!(%address, %refused, "HTTP connection turned away"),
        }
    }
    tasks.close();
    if timeout(door.drain_max, tasks.wait()).await.is_err() {
        warn!("HTTP requests are cut off");
    }
}

/// The same certificate, for the protocol that clients of this port name.
fn speaks_http(acceptor: &TlsAcceptor) -> TlsAcceptor {
    let mut config = acceptor.config().as_ref().clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

async fn run(
    socket: TcpStream,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    router: Router,
    shutdown: CancellationToken,
    _permit: HalfOpenPermit,
) {
    // Small answers are sent at once; without it they only come later.
    socket.set_nodelay(true).ok();
    let mut first = [0];
    if !matches!(timeout(HEAD_MAX, socket.peek(&mut first)).await, Ok(Ok(1))) {
        return;
    }
    match tls.filter(|_| first[0] == TLS_HANDSHAKE) {
        None => exchange(socket, Peer { address, is_encrypted: false }, router, shutdown).await,
        Some(acceptor) => match timeout(HANDSHAKE_MAX, acceptor.accept(socket)).await {
            Ok(Ok(stream)) => {
                exchange(stream, Peer { address, is_encrypted: true }, router, shutdown).await;
            }
            Ok(Err(error)) => debug!(%address, %error, "TLS handshake failed"),
            Err(_) => debug!(%address, "TLS handshake took too long"),
        },
    }
}

/// Answers the requests of one connection.
async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    router: Router,
    shutdown: CancellationToken,
) {
    let service = TowerToHyperService::new(router.layer(Extension(peer)));
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_MAX);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(address = %peer.address, %error, "HTTP connection ended");
    }
}
