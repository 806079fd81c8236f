//! `lacus serve`: the daemon.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::access::{AuthMode, Users};
use crate::config::Config;
use crate::engine::{self, Engine, upkeep};
use crate::error::{Error, Result};
use crate::runtime::cpu::STACK_BYTES;
use crate::server::limits::{ConnectionLimits, Connections};
use crate::server::pg::connection;
use crate::server::pg::startup::Door;
use crate::server::pg::stream::MessageLimits;
use crate::server::{http, listener, tls};
use crate::telemetry;

/// Threads that serve sockets and stores; queries have their own.
const IO_THREADS: usize = 2;

/// Serves until SIGTERM or Ctrl-C, then drains.
///
/// # Errors
/// What is wrong with the configuration, and ports that are taken.
pub fn serve(config: Config) -> Result<()> {
    telemetry::init(config.log_format);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(IO_THREADS)
        .thread_name("lacus-io")
        .thread_stack_size(STACK_BYTES)
        .enable_all()
        .build()?;
    let served = runtime.block_on(run(Arc::new(config)));
    runtime.shutdown_timeout(Duration::from_secs(1));
    served
}

async fn run(config: Arc<Config>) -> Result<()> {
    // Before anybody can see that the daemon is there, and stop it.
    let stopped = stop_signal()?;
    let door = Arc::new(door(&config)?);
    let engine = engine::start(Arc::clone(&config), tokio::runtime::Handle::current())?;
    let listener = bind(config.listen).await?;
    let http = bind(config.http).await?;
    info!(address = %listener.local_addr()?, catalogs = ?engine.catalogs.names(), "ready for connections");
    info!(address = %http.local_addr()?, "serving /health, /metrics and /iceberg");
    let shutdown = CancellationToken::new();
    let web = tokio::spawn(http::serve(http, Arc::clone(&engine), Arc::clone(&door), shutdown.clone()));
    let upkeep =
        config.upkeep.then(|| tokio::spawn(upkeep::background::run(engine.clone(), shutdown.clone())));
    let clients = tokio::spawn(listener::serve(listener, door, shutdown.clone(), handler(&engine)));
    stopped.await;
    info!(limit = ?config.drain_timeout, "draining");
    shutdown.cancel();
    engine.runtime.drain(config.drain_timeout).await;
    clients.await.map_err(crate::runtime::cpu::from_join)?;
    web.await.map_err(crate::runtime::cpu::from_join)?;
    if let Some(upkeep) = upkeep {
        upkeep.await.map_err(crate::runtime::cpu::from_join)?;
    }
    engine.runtime.remove_spill_folder().await;
    info!("stopped");
    Ok(())
}

/// What serves each client that is logged in.
fn handler(
    engine: &Arc<Engine>,
) -> impl Fn(
    crate::server::pg::startup::Authenticated,
    CancellationToken,
) -> futures::future::BoxFuture<'static, ()>
+ Clone
+ Send
+ Sync
+ 'static {
    let engine = Arc::clone(engine);
    move |client, shutdown| Box::pin(connection::serve(client, Arc::clone(&engine), shutdown))
}

/// The door that the configuration asks for.
fn door(config: &Config) -> Result<Door> {
    let auth = match &config.users {
        Some(file) => AuthMode::Scram(Arc::new(Users::load(file)?)),
        None => AuthMode::Trust,
    };
    tls::check_exposure(config.listen, &auth, config.insecure)?;
    let tls = match (&config.tls_cert, &config.tls_key) {
        (Some(certificate), Some(key)) => Some(tls::load(certificate, key)?),
        _ if config.tls_required || !(config.listen.ip().is_loopback() && config.http.ip().is_loopback()) => {
            Some(tls::load_or_create(&config.state_dir)?)
        }
        _ => None,
    };
    let limits = ConnectionLimits { sessions_max: config.connections_max, ..ConnectionLimits::default() };
    let messages =
        MessageLimits { statement_bytes_max: config.message_limit_bytes, ..MessageLimits::default() };
    Ok(Door {
        tls,
        tls_required: config.tls_required,
        insecure: config.insecure,
        drain_max: config.drain_timeout + Duration::from_secs(5),
        messages,
        connections: Connections::new(limits),
        ..Door::new(auth)?
    })
}

async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .map_err(|error| Error::Config(format!("cannot listen on {address}: {error}")))
}

/// Listens for SIGTERM and Ctrl-C from now on; the future ends with the first.
fn stop_signal() -> Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
