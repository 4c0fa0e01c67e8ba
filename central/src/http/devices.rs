//! `POST /v1/device`: an opaque device token.

use super::error::{ApiError, Counted, counted};
use super::octets;
use crate::ingest::token;
use crate::keys;
use crate::service::Service;
use axum::extract::{Request, State};
use axum::response::Response;
use std::sync::Arc;

pub(super) async fn issue(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Result<Response, Counted> {
    let fail = counted(&service);
    service.rates.token(request.headers(), request.extensions()).map_err(&fail)?;
    let random = keys::random().map_err(|error| {
        tracing::error!(%error, "no device token could be made");
        fail(ApiError::Internal)
    })?;
    let until_ms = (service.clock)().saturating_add(service.config.token_ms);
    let token = token::issue(&service.keys.device, &service.config.site, random, until_ms);
    Ok(octets(token.to_vec(), "no-store"))
}
