//! The HTTP port: `/health` and `/metrics`.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::engine::Engine;
use crate::error::Result;

/// What the handlers see.
#[derive(Clone)]
struct Shared {
    engine: Arc<Engine>,
    shutdown: CancellationToken,
}

/// Answers until `shutdown` fires.
///
/// # Errors
/// When the listener fails.
pub async fn serve(listener: TcpListener, engine: Arc<Engine>, shutdown: CancellationToken) -> Result<()> {
    let shared = Shared { engine, shutdown: shutdown.clone() };
    let router =
        Router::new().route("/health", get(health)).route("/metrics", get(metrics)).with_state(shared);
    let ended = shutdown.cancelled_owned();
    Ok(axum::serve(listener, router).with_graceful_shutdown(ended).await?)
}

/// 200 while statements are taken, 503 while the daemon drains.
async fn health(State(shared): State<Shared>) -> (StatusCode, &'static str) {
    match shared.shutdown.is_cancelled() {
        false => (StatusCode::OK, "ok\n"),
        true => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
    }
}

async fn metrics(State(shared): State<Shared>) -> ([(&'static str, &'static str); 1], String) {
    let runtime = &shared.engine.runtime;
    let gauges = [
        (
            "lacus_memory_reserved_bytes",
            "Memory that queries hold.",
            runtime.env.memory_pool.reserved() as u64,
        ),
        ("lacus_spill_bytes", "Bytes in spill files.", runtime.env.disk_manager.used_disk_space()),
    ];
    ([("content-type", "text/plain; version=0.0.4")], runtime.metrics.render(&gauges))
}
