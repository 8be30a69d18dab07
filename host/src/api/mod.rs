//! The HTTP surface (docs/api.md): how the engine fares, what it does, and to reload it. Loopback by default. Refused: requests
//! without the token where one is asked for, and changes that a page of another site asks for.

mod answers;
mod changes;
mod guard;
mod plugins;

pub use guard::{Guard, TokenError};

use crate::config::effective;
use crate::pipeline::publish_process;
use crate::reload::Control;
use crate::telemetry;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Router, extract, middleware};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What the handlers read and ask.
#[derive(Clone)]
pub struct State {
    /// Renders `/metrics`.
    pub metrics: PrometheusHandle,
    /// True once every source listens, and until the stop begins.
    pub ready: Arc<AtomicBool>,
    /// The running engine.
    pub control: Arc<dyn Control>,
    /// Who may ask.
    pub guard: Arc<Guard>,
}

type Engine = extract::State<State>;

/// Binds the address.
pub async fn bind(listen: SocketAddr) -> std::io::Result<tokio::net::TcpListener> {
    tokio::net::TcpListener::bind(listen).await
}

/// Serves until the runtime ends.
pub async fn serve(listener: tokio::net::TcpListener, state: State) -> std::io::Result<()> {
    axum::serve(listener, router(state)).await
}

fn router(state: State) -> Router {
    let guarded = middleware::from_fn_with_state(state.guard.clone(), guard::pass);
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/healthz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/version", get(version))
        .route("/api/v1/plugins", get(plugins))
        .route("/api/v1/plan", get(plan))
        .route("/api/v1/shadow", get(changes::shadows))
        .route("/api/v1/reloads", get(changes::history))
        .route("/-/reload", post(changes::reload))
        .route("/-/rollback", post(changes::rollback))
        .with_state(state)
        .layer(guarded)
}

/// Names what is missing. Lag is no reason: under attack it grows, and taking processes away would not help.
async fn readyz(engine: Engine) -> impl IntoResponse {
    let running = engine.ready.load(Ordering::Relaxed);
    let silent = engine.control.not_connected();
    let silent: Vec<&str> = silent.iter().map(|id| &**id).collect();
    let is_ready = running && silent.is_empty();
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = match (running, silent.is_empty()) {
        (false, _) | (_, true) => json!({"ready": is_ready}),
        (true, false) => json!({"ready": false, "not_connected": silent}),
    };
    (status, format!("{body}\n"))
}

async fn metrics(engine: Engine) -> impl IntoResponse {
    publish_process();
    engine.metrics.run_upkeep();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], telemetry::render(&engine.metrics))
}

async fn version(engine: Engine) -> impl IntoResponse {
    let digest = &engine.control.plan().digest;
    answers::json(StatusCode::OK, &json!({"version": env!("CARGO_PKG_VERSION"), "plan_digest": digest}))
}

async fn plugins(engine: Engine) -> impl IntoResponse {
    answers::json(StatusCode::OK, &plugins::told(engine.control.plugins().as_deref()))
}

async fn plan(engine: Engine) -> impl IntoResponse {
    answers::json(StatusCode::OK, &effective::masked(&engine.control.plan()))
}

#[cfg(test)]
#[path = "tests_support.rs"]
pub(crate) mod fake;
#[cfg(test)]
mod tests;
