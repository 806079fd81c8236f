//! The HTTP port: `/health` and `/metrics` for whoever reaches it, and the Iceberg REST catalog under
//! `/iceberg` for those whom the door lets in.

mod connection;
mod iceberg;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{any, get};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::iceberg::RestCatalog;
use super::pg::startup::Door;
use crate::engine::Engine;

/// What the handlers see.
#[derive(Clone)]
struct Shared {
    engine: Arc<Engine>,
    shutdown: CancellationToken,
}

/// Answers until `shutdown` fires; requests that are under way then are answered.
pub async fn serve(listener: TcpListener, engine: Arc<Engine>, door: Arc<Door>, shutdown: CancellationToken) {
    let rest = Arc::new(RestCatalog::new(Arc::clone(&engine), Arc::clone(&door)));
    let shared = Shared { engine, shutdown: shutdown.clone() };
    let router = Router::new()
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .with_state(shared)
        .route("/iceberg/{*path}", any(iceberg::answer).with_state(rest));
    connection::serve(listener, &door, router, shutdown).await;
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
