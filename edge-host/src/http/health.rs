//! Readiness and metrics.

use super::Refused;
use crate::Edge;
use crate::error::EdgeError;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use serde_json::{Value, json};
use std::sync::Arc;

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

pub(super) async fn metrics(State(edge): State<Arc<Edge>>) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    (StatusCode::OK, kind, edge.metrics().render()).into_response()
}
