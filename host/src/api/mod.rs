//! The HTTP surface: `/livez`, `/readyz`, `/metrics`, `/version`, `/api/v1/plugins` (docs/api.md). Loopback by default; reads
//! only, changes nothing.

mod plugins;

use crate::pipeline::publish_process;
use crate::plugin::Statuses;
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
    /// Sources that have somebody to ask, and whether that one answers.
    pub sources: Vec<(Arc<str>, Arc<AtomicBool>)>,
    /// In `/api/v1/plugins`.
    pub plugins: Option<Arc<Statuses>>,
    /// In `/version`.
    pub plan_digest: Arc<str>,
}

/// Binds the address.
pub async fn bind(listen: SocketAddr) -> std::io::Result<tokio::net::TcpListener> {
    tokio::net::TcpListener::bind(listen).await
}

/// Serves until the runtime ends.
pub async fn serve(listener: tokio::net::TcpListener, state: State) -> std::io::Result<()> {
    let State { metrics, ready, sources, plugins, plan_digest } = state;
    let metrics = move || async move {
        publish_process();
        metrics.run_upkeep();
        ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], metrics.render())
    };
    // Names what is missing. Lag is no reason: under attack it grows, and taking processes away would not help.
    let readyz = move || async move {
        let silent: Vec<&str> =
            sources.iter().filter(|(_, up)| !up.load(Ordering::Relaxed)).map(|(id, _)| &**id).collect();
        let running = ready.load(Ordering::Relaxed);
        let is_ready = running && silent.is_empty();
        let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let body = match (running, silent.is_empty()) {
            (false, _) | (_, true) => serde_json::json!({"ready": is_ready}),
            (true, false) => serde_json::json!({"ready": false, "not_connected": silent}),
        };
        (status, format!("{body}\n"))
    };
    let version = move || async move {
        let body = serde_json::json!({"version": env!("CARGO_PKG_VERSION"), "plan_digest": &*plan_digest});
        ([(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
    };
    let plugins = move || async move {
        let body = plugins::told(plugins.as_deref());
        ([(header::CONTENT_TYPE, "application/json")], format!("{body}\n"))
    };
    let router = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz.clone()))
        .route("/healthz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/version", get(version))
        .route("/api/v1/plugins", get(plugins));
    axum::serve(listener, router).await
}
