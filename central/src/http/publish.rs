//! `POST /v1/publish`, on the admin listener only: the operator wants what waits to be published now, also where
//! it is held.

use super::check_operator;
use super::error::{ApiError, Counted, counted};
use crate::service::Service;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

pub(super) async fn publish(
    State(service): State<Arc<Service>>,
    headers: HeaderMap,
) -> Result<Response, Counted> {
    let fail = counted(&service);
    check_operator(&service, &headers).map_err(&fail)?;
    let version = service.queue.publish().await.map_err(|error| fail(ApiError::Unavailable(error)))?;
    let body = serde_json::json!({ "version": version.0 });
    Ok(([(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response())
}
