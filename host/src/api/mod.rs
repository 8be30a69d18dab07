//! The HTTP surface: `/livez`, `/readyz`, `/metrics`, `/version`. Loopback by default; reads only, changes nothing.

use crate::pipeline::publish_process;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What the handlers read.
#[derive(Clone)]
pub struct State {
    /// Renders `/metrics`.
    pub metrics: PrometheusHandle,
    /// True once every source listens, and until the stop begins.
    pub ready: Arc<AtomicBool>,
    /// In `/version`.
    pub plan_digest: Arc<str>,
}

/// Binds the address.
pub async fn bind(listen: SocketAddr) -> std::io::Result<tokio::net::TcpListener> {
    tokio::net::TcpListener::bind(listen).await
}

/// Serves until the runtime ends.
pub async fn serve(listener: tokio::net::TcpListener, state: State) -> std::io::Result<()> {
    let State { metrics, ready, plan_digest } = state;
    let metrics = move || async move {
        publish_process();
        metrics.run_upkeep();
        ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], metrics.render())
    };
    let readyz = move || async move {
        if ready.load(Ordering::Relaxed) {
            (StatusCode::OK, "{\"ready\":true}\n")
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "{\"ready\":false}\n")
        }
    };
    let version = move || async move {
        let body = serde_json::json!({"version": env!("CARGO_PKG_VERSION"), "plan_digest": &*plan_digest});
        ([(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
    };
    let router = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz.clone()))
        .route("/healthz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/version", get(version));
    axum::serve(listener, router).await
}
