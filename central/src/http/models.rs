//! `GET /v1/model/…`: the signed manifest, and the immutable files that it names.

use super::error::{ApiError, Counted, counted};
use super::octets;
use crate::keys;
use crate::publish::files::FileName;
use crate::service::Service;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use std::sync::Arc;

pub(super) async fn manifest(State(service): State<Arc<Service>>) -> Response {
    octets(service.registry.served().manifest.to_vec(), "no-cache")
}

pub(super) async fn file(
    State(service): State<Arc<Service>>,
    Path(file): Path<String>,
) -> Result<Response, Counted> {
    let fail = counted(&service);
    let served = service.registry.served();
    let name = FileName::parse(&file);
    let Some((name, reference)) = name.and_then(|name| Some((name, served.files.get(&name)?))) else {
        return Err(fail(ApiError::NotKept { file: file.chars().take(64).collect() }));
    };
    let bytes = match tokio::fs::read(service.registry.path(name)).await {
        Ok(bytes) => bytes,
        // A publish has just taken it away.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(fail(ApiError::NotKept { file: name.to_string() }));
        }
        Err(error) => {
            tracing::error!(%error, %name, "a model file could not be read");
            return Err(fail(ApiError::Internal));
        }
    };
    let mut response = octets(bytes, "public, max-age=31536000, immutable");
    let tag = format!("\"{}\"", keys::hex(&reference.hash[..16]));
    response
        .headers_mut()
        .insert(header::ETAG, HeaderValue::from_str(&tag).expect("hex digits make a header"));
    Ok(response)
}
