//! The HTTP face: JSON over HTTP/1.1 and HTTP/2. `GET /v1/openapi.json` describes it.
//!
//! | call | answer |
//! |---|---|
//! | `POST /v1/users/{user}/events` | one event or an array of up to 1000, at most 256 KiB → counts; durable when answered |
//! | `GET /v1/users/{user}/recommendations?count=20&scenario=discover` | the list |
//! | `GET /v1/users/{user}/recommendations/stream` | the list now and after each event, as server-sent events |
//! | `POST /v1/users/{user}/observe` | `{"events": …, "list": …}` → both, in one step |
//! | `GET /v1/items/{item}/similar?count=20` | items like another one |
//! | `GET /v1/users/{user}` | what is kept of the user |
//! | `DELETE /v1/users/{user}` | forgets the user |
//! | `POST /v1/batch` | up to 100 calls, each with its `verb` → their answers |
//! | `GET /livez`, `/readyz`, `/metrics` | serves; can recommend; Prometheus text |
//!
//! All but the first two of the last row, and the description, need `authorization: Bearer` and a token: see
//! [`crate::auth`]. `x-request-id` names a request in logs and comes back with the answer; `x-deadline-ms` says how
//! long the caller waits.
//!
//! An event is `{"kind": "view_item", "item_id": "…"}` with the plain or GA4 name of a kind and,
//! optionally, `event_id`, `time_ms` (default: now), `value` and `session_id`. Any other field is
//! refused, so that a misspelt one is noticed. A batch is checked wholly before any of it counts.
//! What is refused answers `{"code", "error"}`.

mod events;
mod health;
mod lists;
mod people;

use crate::Edge;
use crate::error::{Class, EdgeError};
use crate::service::{Call, Context, EdgeService};
use crate::telemetry::TRACE_PARENT;
use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, FailedToBufferBody};
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tower_http::cors::CorsLayer;
use utoipa::{OpenApi, ToSchema};

/// Most bytes of a body.
pub const BODY_BYTES_MAX: usize = 256 * 1024;

/// The header that names a request.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The header that names the caller's trace.
const TRACE: HeaderName = HeaderName::from_static(TRACE_PARENT);
/// The header that says how long a caller waits, in milliseconds.
pub const DEADLINE_MS: HeaderName = HeaderName::from_static("x-deadline-ms");

/// The description of this face.
#[derive(OpenApi)]
#[openapi(
    info(title = "Nearfield edge", description = "Lists that adapt to a person in the moment."),
    paths(
        events::events,
        events::observe,
        lists::recommendations,
        lists::stream,
        lists::similar,
        people::export,
        people::erase,
        people::batch,
        health::live,
        health::ready,
        health::metrics,
    ),
    modifiers(&Bearer),
    security(("bearer" = [])),
)]
pub struct Description;

struct Bearer;

impl utoipa::Modify for Bearer {
    fn modify(&self, description: &mut utoipa::openapi::OpenApi) {
        use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("a service's token, or a JSON Web Token that the site signed for one user"))
            .build();
        let components = description.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

/// Returns the router of an edge: HTTP and gRPC. Tests call it without a socket.
pub fn app(edge: Arc<Edge>) -> Router {
    let pages = CorsLayer::new()
        .allow_origin(edge.options.origins.clone())
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE, REQUEST_ID, DEADLINE_MS, TRACE])
        .expose_headers([REQUEST_ID, header::RETRY_AFTER])
        .max_age(Duration::from_secs(3600));
    let service = EdgeService::new(Arc::clone(&edge));
    Router::new()
        .route("/v1/users/{user}/events", post(events::events))
        .route("/v1/users/{user}/observe", post(events::observe))
        .route("/v1/users/{user}/recommendations", get(lists::recommendations))
        .route("/v1/users/{user}/recommendations/stream", get(lists::stream))
        .route("/v1/users/{user}", get(people::export).delete(people::erase))
        .route("/v1/items/{item}/similar", get(lists::similar))
        .route("/v1/batch", post(people::batch))
        .route("/v1/openapi.json", get(|| async { Json(Description::openapi()) }))
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .method_not_allowed_fallback(|| async { Refused(EdgeError::Method) })
        .fallback(|| async { Refused(EdgeError::UnknownPath) })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(pages)
        .layer(from_fn_with_state(Arc::clone(&edge), named_and_counted))
        .with_state(edge)
        .merge(crate::grpc::router(service))
}

/// A call whose caller is known: what every handler begins with.
pub(crate) struct Asked {
    service: EdgeService,
    context: Context,
    parts: HashMap<String, String>,
}

/// What a handler gives.
type Answered = Result<Response, Refused>;

/// The request's name, from the first layer to the handler.
#[derive(Clone)]
struct RequestId(String);

impl FromRequestParts<Arc<Edge>> for Asked {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, edge: &Arc<Edge>) -> Result<Self, Refused> {
        let text = |name: &HeaderName| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let principal = edge.options.access.principal(text(&header::AUTHORIZATION), &edge.options.site)?;
        let wait = match text(&DEADLINE_MS).map(str::parse) {
            None => edge.options.call_deadline,
            Some(Ok(wait_ms)) => Duration::from_millis(wait_ms),
            Some(Err(_)) => {
                let message = "is no number of milliseconds".to_owned();
                return Err(EdgeError::Field { field: "x-deadline-ms", message }.into());
            }
        };
        let request_id = parts.extensions.get::<RequestId>().map(|RequestId(id)| id.clone());
        let context = Context::new(principal, request_id.as_deref(), wait).in_trace(text(&TRACE));
        let path = Path::<HashMap<String, String>>::from_request_parts(parts, edge).await;
        let parts = path.map(|Path(parts)| parts).unwrap_or_default();
        Ok(Self { service: EdgeService::new(Arc::clone(edge)), context, parts })
    }
}

impl Asked {
    /// Returns a part of the path; nothing where it is no UTF-8.
    fn part(&self, name: &str) -> Option<&str> {
        self.parts.get(name).map(String::as_str)
    }

    /// Returns the user's name.
    fn user(&self) -> Result<String, EdgeError> {
        let limit = crate::service::messages::USER_BYTES_MAX;
        self.part("user").map(str::to_owned).ok_or(EdgeError::UserName { bytes: 0, limit })
    }

    async fn answer(&self, call: Call) -> Answered {
        Ok(Json(self.service.call(&self.context, call).await?).into_response())
    }
}

/// Reads a body.
fn json_body<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Result<T, EdgeError> {
    let body = body.map_err(|rejection| match rejection {
        BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)) => {
            EdgeError::BodyTooLarge { limit: BODY_BYTES_MAX }
        }
        other => EdgeError::BodyUnreadable { message: other.to_string() },
    })?;
    serde_json::from_slice(&body).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => EdgeError::Shape { message: error.to_string() },
        _ => EdgeError::MalformedJson { message: error.to_string() },
    })
}

/// Why a call was not served.
#[derive(Serialize, ToSchema)]
pub(crate) struct Failure {
    /// A short stable name.
    code: &'static str,
    /// What to do about it: the field and the limit, or what is away.
    error: String,
}

impl Failure {
    fn of(error: &EdgeError) -> Self {
        Self { code: error.code(), error: error.to_string() }
    }
}

/// An error on its way to the caller.
pub(crate) struct Refused(EdgeError);

impl<E: Into<EdgeError>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

/// The code of a refusal, for the counter.
#[derive(Clone, Copy)]
struct Code(&'static str);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let class = self.0.class();
        let mut response = (class.status(), Json(Failure::of(&self.0))).into_response();
        let more = match class {
            Class::Unavailable => Some((header::RETRY_AFTER, "1")),
            Class::Unauthenticated => Some((header::WWW_AUTHENTICATE, "Bearer")),
            _ => None,
        };
        if let Some((name, value)) = more {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response.extensions_mut().insert(Code(self.0.code()));
        response
    }
}

/// Names every request, and counts every refusal, whichever layer it comes from.
async fn named_and_counted(State(edge): State<Arc<Edge>>, mut request: Request, next: Next) -> Response {
    let given = request.headers().get(&REQUEST_ID).and_then(|value| value.to_str().ok());
    let id = crate::service::context::request_id(given);
    request.extensions_mut().insert(RequestId(id.clone()));
    let mut response = next.run(request).await;
    if let Some(Code(code)) = response.extensions().get() {
        edge.metrics().refused(code);
    }
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}
