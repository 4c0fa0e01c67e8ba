//! The HTTP of central: a router without a socket, so that tests call it as a function.
//!
//! ```text
//! POST /v1/device                  → an opaque device token
//! POST /v1/sync                    SyncRequest → SyncReply
//! GET  /v1/model/latest            → signed manifest
//! GET  /v1/model/{version}.pack, /v1/model/{from}..{to}.patch   immutable
//! GET  /healthz /readyz
//! GET  /metrics /readyz            on the listener for metrics
//! POST /v1/catalog, /v1/publish    on the admin listener only, with its bearer token
//! ```

mod catalogue;
mod devices;
mod error;
mod health;
pub mod listener;
mod models;
mod publish;
mod rates;
mod sync;

pub use error::ApiError;
pub use rates::{Peer, Rates};

use crate::service::Service;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use error::Counted;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tower_http::cors::{Any, CorsLayer};
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::timeout::TimeoutLayer;

/// Longest time that a request of the operator may take: a catalogue is larger than a sync body.
const ADMIN_REQUEST_TIME: Duration = Duration::from_secs(60);

/// Returns the router that devices and edges reach.
pub fn app(service: Arc<Service>) -> Router {
    let cors = CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([header::CONTENT_TYPE])
        .expose_headers([header::RETRY_AFTER, header::ETAG])
        .max_age(Duration::from_secs(86_400));
    let resource_policy = SetResponseHeaderLayer::overriding(
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("cross-origin"),
    );
    Router::new()
        .route("/v1/device", post(devices::issue))
        .route("/v1/sync", post(sync::sync))
        .route("/v1/model/latest", get(models::manifest))
        .route("/v1/model/{file}", get(models::file))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .fallback(no_route)
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, request_time(&service)))
        .layer(cors)
        .layer(resource_policy)
        .layer(middleware::from_fn_with_state(service.clone(), timed))
        .with_state(service)
}

/// Returns the router of the listener for metrics.
pub fn metrics_app(service: Arc<Service>) -> Router {
    Router::new()
        .route("/metrics", get(health::metrics))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .fallback(no_route)
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, request_time(&service)))
        .with_state(service)
}

/// Returns the router of the admin listener.
pub fn admin_app(service: Arc<Service>) -> Router {
    Router::new()
        .route("/v1/catalog", post(catalogue::change))
        .route("/v1/publish", post(publish::publish))
        .route("/healthz", get(health::healthz))
        .fallback(no_route)
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, ADMIN_REQUEST_TIME))
        .layer(middleware::from_fn_with_state(service.clone(), timed))
        .with_state(service)
}

/// Returns the longest time that a request may take, its body included: a slow client holds nothing for longer.
fn request_time(service: &Service) -> Duration {
    Duration::from_millis(service.config.request_ms)
}

async fn timed(State(service): State<Arc<Service>>, request: Request, next: Next) -> Response {
    let route = route(request.uri().path());
    let started = Instant::now();
    let response = next.run(request).await;
    service.metrics.request(route, response.status().as_u16(), started.elapsed().as_secs_f64());
    response
}

/// Returns the name of a route for metrics; the paths that clients may make up are one name.
fn route(path: &str) -> &'static str {
    match path {
        "/v1/device" => "/v1/device",
        "/v1/sync" => "/v1/sync",
        "/v1/catalog" => "/v1/catalog",
        "/v1/publish" => "/v1/publish",
        "/v1/model/latest" => "/v1/model/latest",
        "/healthz" => "/healthz",
        "/readyz" => "/readyz",
        path if path.starts_with("/v1/model/") => "/v1/model/{file}",
        _ => "other",
    }
}

/// Checks that a request comes from the operator.
fn check_operator(service: &Service, headers: &HeaderMap) -> Result<(), ApiError> {
    let given =
        headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    // Hashes are compared, in constant time, so that timing reveals nothing about the token.
    let known = blake3::hash(service.keys.admin_token.as_bytes());
    if given.is_some_and(|given| blake3::hash(given.trim().as_bytes()) == known) {
        Ok(())
    } else {
        Err(ApiError::Unauthorized)
    }
}

/// Reads a body of at most `limit` bytes; a longer one is refused by its header where it has one,
/// and otherwise as soon as it passes the limit.
async fn read_body(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, ApiError> {
    let announced =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > limit as u64) {
        return Err(ApiError::TooLarge { limit });
    }
    axum::body::to_bytes(body, limit).await.map_err(|error| {
        let too_large = std::error::Error::source(&error)
            .is_some_and(|source| source.is::<http_body_util::LengthLimitError>());
        if too_large { ApiError::TooLarge { limit } } else { ApiError::BrokenBody }
    })
}

fn octets(bytes: impl Into<Body>, cache: &'static str) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/octet-stream"), (header::CACHE_CONTROL, cache)];
    (headers, bytes.into()).into_response()
}

async fn no_route(State(service): State<Arc<Service>>) -> Counted {
    Counted { service, error: ApiError::NoRoute }
}
