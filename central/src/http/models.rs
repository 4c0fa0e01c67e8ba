//! `GET /v1/model/…`: the signed manifest, and the immutable files that it names.

use super::error::{ApiError, Counted, counted};
use super::octets;
use crate::keys;
use crate::publish::files::FileName;
use crate::service::Service;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use std::sync::Arc;
use tokio::fs::File;
use tokio_util::io::ReaderStream;

/// Bytes of a file that one download holds in memory.
const CHUNK_BYTES: usize = 64 * 1024;

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
    let file = match File::open(service.registry.path(name)).await {
        Ok(file) => file,
        // A publish has just taken it away.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(fail(ApiError::NotKept { file: name.to_string() }));
        }
        Err(error) => {
            tracing::error!(%error, %name, "a model file could not be opened");
            return Err(fail(ApiError::Internal));
        }
    };
    // As it is read: many slow downloads must not hold as many whole files in memory.
    let body = Body::from_stream(ReaderStream::with_capacity(file, CHUNK_BYTES));
    let mut response = octets(body, "public, max-age=31536000, immutable");
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(reference.bytes));
    let tag = format!("\"{}\"", keys::hex(&reference.hash[..16]));
    response
        .headers_mut()
        .insert(header::ETAG, HeaderValue::from_str(&tag).expect("hex digits make a header"));
    Ok(response)
}
