//! `/-/reload`, `/-/rollback`, `/api/v1/reloads`, `/api/v1/shadow`. Comes in: a request; goes out: the report as JSON, its outcome
//! in the status too. A change goes on when who asked for it goes away.

use super::{Engine, answers};
use crate::reload::{Busy, Control, Outcome, Report, Trigger};
use axum::http::StatusCode;
use axum::response::Response;
use std::sync::Arc;

pub(super) async fn reload(engine: Engine) -> Response {
    told(ask(&engine.control, |control| control.reload(Trigger::Api)).await)
}

pub(super) async fn rollback(engine: Engine) -> Response {
    told(ask(&engine.control, |control| control.rollback(Trigger::Rollback)).await)
}

pub(super) async fn history(engine: Engine) -> Response {
    match ask(&engine.control, |control| control.history()).await {
        Ok(history) => answers::json(StatusCode::OK, &history),
        Err(broken) => broken,
    }
}

pub(super) async fn shadows(engine: Engine) -> Response {
    match ask(&engine.control, |control| control.shadows()).await {
        Ok(shadows) => answers::json(StatusCode::OK, &shadows),
        Err(broken) => broken,
    }
}

/// Asks on a thread that may wait: the one that answers requests goes on. Fails with an answer when that thread panics.
async fn ask<T: Send + 'static>(
    control: &Arc<dyn Control>,
    question: impl FnOnce(&dyn Control) -> T + Send + 'static,
) -> Result<T, Response> {
    let control = control.clone();
    tokio::task::spawn_blocking(move || question(&*control)).await.map_err(|error| {
        tracing::error!("a request broke: this is a bug: {error}");
        answers::error(StatusCode::INTERNAL_SERVER_ERROR, "a thread panicked: this is a bug, the log says where")
    })
}

fn told(came: Result<Result<Report, Busy>, Response>) -> Response {
    let report = match came {
        Ok(Ok(report)) => report,
        Ok(Err(busy)) => return answers::error(StatusCode::CONFLICT, &busy.to_string()),
        Err(broken) => return broken,
    };
    let status = match report.outcome {
        Outcome::Applied | Outcome::Unchanged => StatusCode::OK,
        Outcome::Refused => StatusCode::UNPROCESSABLE_ENTITY,
        Outcome::Failed => StatusCode::INTERNAL_SERVER_ERROR,
    };
    answers::json(status, &report)
}
