//! `POST /v1/sync`: a batch of deltas in, what became of each out.

use super::error::{ApiError, Counted, counted};
use super::{octets, read_body};
use crate::ingest::token;
use crate::service::Service;
use axum::extract::{Request, State};
use axum::response::Response;
use nearfield_engine::limits::SYNC_BYTES_MAX;
use nearfield_engine::sync::wire::{self, SyncReply, SyncRequest};
use std::sync::Arc;

pub(super) async fn sync(State(service): State<Arc<Service>>, request: Request) -> Result<Response, Counted> {
    let fail = counted(&service);
    let (head, body) = request.into_parts();
    service.rates.sync(&head.headers, &head.extensions).map_err(&fail)?;
    let body = read_body(&head.headers, body, SYNC_BYTES_MAX).await.map_err(&fail)?;
    let request = wire::decode_request(&body).map_err(|error| fail(ApiError::Decode(error)))?;
    addressed_here(&service, &request).map_err(&fail)?;
    let ids: Vec<_> = request.deltas.iter().map(|delta| delta.id).collect();
    let outcomes = if ids.is_empty() {
        Vec::new()
    } else {
        let outcomes = service.queue.sync(request.deltas, request.token).await;
        outcomes.map_err(|error| fail(ApiError::Unavailable(error)))?
    };
    let served = service.registry.served();
    let reply = SyncReply {
        results: ids.into_iter().zip(outcomes).collect(),
        lineage: served.lineage,
        version: served.version,
        extensions: Vec::new(),
    };
    Ok(octets(wire::encode_reply(&reply), "no-store"))
}

/// Checks what all deltas of a request stand on: its site, its device token and how often that asks. Nothing is
/// said about the deltas where it fails: with another token they may be sent again.
fn addressed_here(service: &Service, request: &SyncRequest) -> Result<(), ApiError> {
    let site = &service.config.site;
    if request.site != *site {
        return Err(ApiError::WrongSite { found: request.site.clone(), served: site.clone() });
    }
    token::verify(&service.keys.device, site, &request.token, (service.clock)()).map_err(ApiError::Token)?;
    // Only tokens that hold are counted: what is made up leaves no trace in memory.
    service.rates.sync_with(&request.token)
}
