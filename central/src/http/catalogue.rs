//! `POST /v1/catalog`, on the admin listener only: the operator's catalogue.

use super::error::{ApiError, Counted, counted};
use super::{check_operator, read_body};
use crate::catalogue::{self, Form};
use crate::ingest::queue::ChangeError;
use crate::service::Service;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

/// Largest catalogue body, in bytes: 2²⁴ rows do not come in one request, a hundred thousand do.
const CATALOGUE_BYTES_MAX: usize = 32 << 20;

pub(super) async fn change(
    State(service): State<Arc<Service>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Counted> {
    let fail = counted(&service);
    check_operator(&service, &headers).map_err(&fail)?;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let form = match kind.split(';').next().unwrap_or_default().trim() {
        "application/json" => Form::Json,
        "text/csv" => Form::Csv,
        _ => return Err(fail(ApiError::MediaType)),
    };
    let body = read_body(&headers, body, CATALOGUE_BYTES_MAX).await.map_err(&fail)?;
    let changes = catalogue::read(form, &body).map_err(|error| fail(ApiError::Catalogue(error)))?;
    let changed = service.queue.change(changes).await.map_err(|error| {
        fail(match error {
            ChangeError::Catalog(error) => ApiError::Change(error),
            ChangeError::Unavailable(error) => ApiError::Unavailable(error),
        })
    })?;
    let body = serde_json::json!({ "items": changed.asked, "added": changed.added });
    Ok(([(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response())
}
