//! Liveness, readiness and metrics.

use super::{Asked, Refused};
use crate::Edge;
use crate::auth::Scope;
use crate::error::EdgeError;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Json, Response};
use serde_json::{Value, json};
use std::sync::Arc;

/// Says yes while the process serves.
#[utoipa::path(get, path = "/livez", tag = "operations", responses((status = 200)))]
pub(super) async fn live() -> &'static str {
    "ok\n"
}

/// Says yes while any list can be made, of whatever rung.
#[utoipa::path(get, path = "/readyz", tag = "operations", responses((status = 200), (status = 503, body = super::Failure)))]
pub(super) async fn ready(State(edge): State<Arc<Edge>>) -> Result<Json<Value>, Refused> {
    if !edge.can_recommend() {
        return Err(EdgeError::NoModel.into());
    }
    let model = edge.pool().model().map(|model| model.info);
    Ok(Json(json!({
        "lineage": model.map(|model| model.lineage.to_string()),
        "model_version": model.map(|model| model.version.0),
    })))
}

/// Metrics in Prometheus text.
#[utoipa::path(get, path = "/metrics", tag = "operations", responses((status = 200), (status = "4XX", body = super::Failure)))]
pub(super) async fn metrics(asked: Asked) -> Result<Response, Refused> {
    asked.context.principal.may(Scope::Metrics, None)?;
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    Ok((kind, asked.service.edge().metrics_text()).into_response())
}
