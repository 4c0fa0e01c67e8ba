//! The HTTP of central: a router without a socket, so that tests call it as a function.
//!
//! ```text
//! POST /v1/device                  → an opaque device token
//! POST /v1/sync                    SyncRequest → SyncReply
//! GET  /v1/model/latest            → signed manifest
//! GET  /v1/model/{version}.pack, /v1/model/{from}..{to}.patch   immutable
//! GET  /healthz /readyz /metrics
//! POST /v1/catalog                 on the admin listener only, with its bearer token
//! ```

use crate::catalogue::{self, CatalogueError, Form};
use crate::ingest::token;
use crate::ingest::writer::{ChangeError, Unavailable};
use crate::keys;
use crate::publish::publisher::FileName;
use crate::service::Central;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use nearfield_engine::limits::SYNC_BYTES_MAX;
use nearfield_engine::sync::wire::{self, SyncReply, SyncRequest};
use nearfield_engine::{CatalogError, DecodeError, Outcome, Refusal};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tower_http::cors::{Any, CorsLayer};
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::timeout::TimeoutLayer;

/// Longest time that a request may take, its body included: a slow client holds nothing for longer.
const REQUEST_TIME: Duration = Duration::from_secs(15);

/// Largest catalogue body: 2²⁴ rows do not come in one request, a hundred thousand do.
const CATALOGUE_BYTES_MAX: usize = 32 << 20;

/// Seconds that a client waits before it tries a busy server again.
const RETRY_AFTER_S: &str = "2";

/// Why a request was not taken. Nothing was changed.
#[derive(Clone, Debug, PartialEq)]
pub enum ApiError {
    /// The body is larger than the route takes; it was not parsed.
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The body broke off.
    BrokenBody,
    /// The sync body does not decode.
    Decode(DecodeError),
    /// The writer is not available.
    Unavailable(Unavailable),
    /// No such route.
    NoRoute,
    /// No such model file is kept.
    NotKept {
        /// The file's name.
        file: String,
    },
    /// The admin token is missing or wrong.
    Unauthorized,
    /// The body's type is neither CSV nor JSON.
    MediaType,
    /// The catalogue does not read.
    Catalogue(CatalogueError),
    /// A change of the catalogue cannot be made.
    Change(CatalogError),
    /// A file or random bytes could not be read.
    Internal,
}

impl ApiError {
    /// Returns the status that answers it.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::TooLarge { .. } | Self::Decode(DecodeError::TooLarge { .. }) => {
                StatusCode::PAYLOAD_TOO_LARGE
            }
            Self::BrokenBody
            | Self::Decode(
                DecodeError::Foreign
                | DecodeError::UnknownFormat { .. }
                | DecodeError::Malformed
                | DecodeError::NotCanonical
                | DecodeError::Field { .. },
            )
            | Self::Catalogue(_) => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Unavailable(Unavailable::Busy) => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable(Unavailable::StoreFailed | Unavailable::Stopping) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::NoRoute | Self::NotKept { .. } => StatusCode::NOT_FOUND,
            Self::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Change(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Returns a short stable name, for metrics and for callers' code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too_large",
            Self::BrokenBody => "broken_body",
            Self::Decode(error) => error.reason(),
            Self::Unavailable(Unavailable::Busy) => "busy",
            Self::Unavailable(Unavailable::StoreFailed) => "store_failed",
            Self::Unavailable(Unavailable::Stopping) => "shutting_down",
            Self::NoRoute => "no_route",
            Self::NotKept { .. } => "not_kept",
            Self::Unauthorized => "unauthorized",
            Self::MediaType => "media_type",
            Self::Catalogue(_) => "catalogue",
            Self::Change(error) => error.reason(),
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { limit } => write!(f, "body is too large, the limit is {limit} bytes"),
            Self::BrokenBody => write!(f, "body broke off"),
            Self::Decode(error) => write!(f, "{error}"),
            Self::Unavailable(error) => write!(f, "{error}"),
            Self::NoRoute => write!(f, "no such route"),
            Self::NotKept { file } => write!(f, "{file} is not kept; GET /v1/model/latest names what is"),
            Self::Unauthorized => {
                write!(f, "header authorization must be: Bearer, and the text of admin-token")
            }
            Self::MediaType => write!(f, "content-type must be application/json or text/csv"),
            Self::Catalogue(error) => write!(f, "{error}"),
            Self::Change(error) => write!(f, "{error}"),
            Self::Internal => write!(f, "the server could not read what it needs; its log says why"),
        }
    }
}

impl std::error::Error for ApiError {}

/// An error that knows where to be counted.
struct Counted {
    central: Arc<Central>,
    error: ApiError,
}

impl IntoResponse for Counted {
    fn into_response(self) -> Response {
        self.central.metrics.rejected(self.error.code());
        let body = serde_json::json!({ "code": self.error.code(), "error": self.error.to_string() });
        let mut response =
            (self.error.status(), [(header::CONTENT_TYPE, "application/json")], body.to_string())
                .into_response();
        if self.error == ApiError::Unavailable(Unavailable::Busy) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
        }
        response
    }
}

fn counted(central: &Arc<Central>) -> impl Fn(ApiError) -> Counted {
    let central = central.clone();
    move |error| Counted { central: central.clone(), error }
}

/// Returns the router that devices and edges reach.
pub fn app(central: Arc<Central>) -> Router {
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
        .route("/v1/device", post(issue_token))
        .route("/v1/sync", post(sync))
        .route("/v1/model/latest", get(manifest))
        .route("/v1/model/{file}", get(model_file))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .fallback(no_route)
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, REQUEST_TIME))
        .layer(cors)
        .layer(resource_policy)
        .layer(middleware::from_fn_with_state(central.clone(), timed))
        .with_state(central)
}

/// Returns the router of the admin listener.
pub fn admin_app(central: Arc<Central>) -> Router {
    Router::new()
        .route("/v1/catalog", post(change_catalogue))
        .route("/healthz", get(healthz))
        .fallback(no_route)
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, 4 * REQUEST_TIME))
        .layer(middleware::from_fn_with_state(central.clone(), timed))
        .with_state(central)
}

async fn timed(State(central): State<Arc<Central>>, request: Request, next: Next) -> Response {
    let route = route(request.uri().path());
    let started = Instant::now();
    let response = next.run(request).await;
    central.metrics.request(route, response.status().as_u16(), started.elapsed().as_secs_f64());
    response
}

/// Returns the name of a route for metrics; the paths that clients may make up are one name.
fn route(path: &str) -> &'static str {
    match path {
        "/v1/device" => "/v1/device",
        "/v1/sync" => "/v1/sync",
        "/v1/catalog" => "/v1/catalog",
        "/v1/model/latest" => "/v1/model/latest",
        "/healthz" => "/healthz",
        "/readyz" => "/readyz",
        "/metrics" => "/metrics",
        path if path.starts_with("/v1/model/") => "/v1/model/{file}",
        _ => "other",
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

async fn issue_token(State(central): State<Arc<Central>>) -> Result<Response, Counted> {
    let random = keys::random().map_err(|error| {
        tracing::error!(%error, "no device token could be made");
        counted(&central)(ApiError::Internal)
    })?;
    let until_ms = (central.clock)().saturating_add(central.config.token_ms);
    let token = token::issue(&central.keys.device, &central.config.site, random, until_ms);
    Ok(octets(token.to_vec(), "no-store"))
}

async fn sync(
    State(central): State<Arc<Central>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Counted> {
    let fail = counted(&central);
    let body = read_body(&headers, body, SYNC_BYTES_MAX).await.map_err(&fail)?;
    let request = wire::decode_request(&body).map_err(|error| fail(ApiError::Decode(error)))?;
    let ids: Vec<_> = request.deltas.iter().map(|delta| delta.id).collect();
    let outcomes = match addressed_here(&central, &request) {
        Err(refusal) => {
            ids.iter().for_each(|_| central.metrics.refused(refusal.reason()));
            vec![Outcome::Refused(refusal); ids.len()]
        }
        Ok(()) if request.deltas.is_empty() => Vec::new(),
        Ok(()) => {
            let outcomes = central.writer.sync(request.deltas, request.token).await;
            outcomes.map_err(|error| fail(ApiError::Unavailable(error)))?
        }
    };
    let served = central.registry.served();
    let reply = SyncReply {
        results: ids.into_iter().zip(outcomes).collect(),
        lineage: served.lineage,
        version: served.version,
        extensions: Vec::new(),
    };
    Ok(octets(wire::encode_reply(&reply), "no-store"))
}

/// Checks what all deltas of a request stand on: its site and its device token.
fn addressed_here(central: &Central, request: &SyncRequest) -> Result<(), Refusal> {
    if request.site != central.config.site {
        return Err(Refusal::WrongSite);
    }
    let now_ms = (central.clock)();
    token::verify(&central.keys.device, &central.config.site, &request.token, now_ms).map_err(|error| {
        central.metrics.rejected(error.code());
        tracing::debug!(%error, "device token refused");
        Refusal::Token
    })
}

async fn manifest(State(central): State<Arc<Central>>) -> Response {
    octets(central.registry.served().manifest.to_vec(), "no-cache")
}

async fn model_file(
    State(central): State<Arc<Central>>,
    Path(file): Path<String>,
) -> Result<Response, Counted> {
    let fail = counted(&central);
    let served = central.registry.served();
    let name = FileName::parse(&file);
    let Some((name, reference)) = name.and_then(|name| Some((name, served.files.get(&name)?))) else {
        return Err(fail(ApiError::NotKept { file: file.chars().take(64).collect() }));
    };
    let bytes = match tokio::fs::read(central.registry.path(name)).await {
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

async fn healthz() -> &'static str {
    "ok\n"
}

async fn readyz(State(central): State<Arc<Central>>) -> Response {
    if central.writer.has_failed() {
        let text = format!("{}\n", Unavailable::StoreFailed);
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    }
    "ready\n".into_response()
}

async fn metrics(State(central): State<Arc<Central>>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], central.metrics.render()).into_response()
}

async fn no_route(State(central): State<Arc<Central>>) -> Counted {
    Counted { central, error: ApiError::NoRoute }
}

async fn change_catalogue(
    State(central): State<Arc<Central>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Counted> {
    let fail = counted(&central);
    let given =
        headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    // Hashes are compared, in constant time, so that time tells nothing of the token.
    let known = blake3::hash(central.keys.admin_token.as_bytes());
    if given.is_none_or(|given| blake3::hash(given.trim().as_bytes()) != known) {
        return Err(fail(ApiError::Unauthorized));
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let form = match kind.split(';').next().unwrap_or_default().trim() {
        "application/json" => Form::Json,
        "text/csv" => Form::Csv,
        _ => return Err(fail(ApiError::MediaType)),
    };
    let body = read_body(&headers, body, CATALOGUE_BYTES_MAX).await.map_err(&fail)?;
    let changes = catalogue::read(form, &body).map_err(|error| fail(ApiError::Catalogue(error)))?;
    let changed = central.writer.change(changes).await.map_err(|error| {
        fail(match error {
            ChangeError::Catalog(error) => ApiError::Change(error),
            ChangeError::Unavailable(error) => ApiError::Unavailable(error),
        })
    })?;
    let body = serde_json::json!({ "items": changed.asked, "added": changed.added });
    Ok(([(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response())
}
