//! The HTTP interface.
//!
//! | call | answer |
//! |---|---|
//! | `POST /v1/users/{user}/events` | one event or an array of up to 1000, at most 256 KiB → counts; on disk when answered |
//! | `GET /v1/users/{user}/recommendations?count=20&scenario=discover` (or `continue`: own items may come too) | the list |
//! | `GET /v1/users/{user}` | what is kept of the user |
//! | `DELETE /v1/users/{user}` | forgets the user |
//! | `GET /livez`, `/readyz`, `/metrics` | alive; has a model and a sound store; Prometheus text |
//!
//! All but the health calls need `authorization: Bearer` and a token with the scope of the call (`write`, `read`,
//! `admin` or `metrics`), or one that the site signed for the very user: see [`crate::auth`].
//!
//! An event is `{"kind": "view_item", "item_id": "…"}` with the plain or GA4 name of a kind and,
//! optionally, `event_id`, `time_ms` (default: now), `value` and `session_id`. Any other field is
//! refused, so that a misspelt one is noticed. A batch is checked wholly before any of it counts.
//! What is refused answers `{"code", "error"}`.

mod events;
mod health;
mod recommendations;
mod users;

pub use events::{EVENTS_BYTES_MAX, EVENTS_MAX};

use crate::Edge;
use crate::auth::Scope;
use crate::error::EdgeError;
use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::header;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{delete, get, post};
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;

/// Most bytes of a user's name.
pub const USER_BYTES_MAX: usize = 128;

/// Returns the router of an edge; tests call it without a socket.
pub fn app(edge: Arc<Edge>) -> Router {
    let needs = |scope| from_fn_with_state((Arc::clone(&edge), scope), authorise);
    let user = get(users::inspect).layer(needs(Scope::Admin));
    Router::new()
        .route("/v1/users/{user}/events", post(events::learn).layer(needs(Scope::Write)))
        .route("/v1/users/{user}/recommendations", get(recommendations::recommend).layer(needs(Scope::Read)))
        .route("/v1/users/{user}", user.merge(delete(users::forget).layer(needs(Scope::Admin))))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics).layer(needs(Scope::Metrics)))
        .fallback(|| async { Refused(EdgeError::UnknownPath) })
        .method_not_allowed_fallback(|| async { Refused(EdgeError::Method) })
        .layer(DefaultBodyLimit::max(EVENTS_BYTES_MAX))
        .layer(from_fn_with_state(Arc::clone(&edge), count_refusals))
        .with_state(edge)
}

/// An error on its way to the caller.
struct Refused(EdgeError);

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
        let body = json!({ "code": self.0.code(), "error": self.0.to_string() });
        let mut response = (self.0.status(), Json(body)).into_response();
        let more = match self.0 {
            EdgeError::Busy { .. }
            | EdgeError::Contended { .. }
            | EdgeError::Store(_)
            | EdgeError::NoModel => Some((header::RETRY_AFTER, "1")),
            EdgeError::Unauthorized { .. } => Some((header::WWW_AUTHENTICATE, "Bearer")),
            _ => None,
        };
        if let Some((name, value)) = more {
            response.headers_mut().insert(name, header::HeaderValue::from_static(value));
        }
        response.extensions_mut().insert(Code(self.0.code()));
        response
    }
}

/// Counts every refusal, whichever layer it comes from.
async fn count_refusals(State(edge): State<Arc<Edge>>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    if let Some(Code(code)) = response.extensions().get() {
        edge.metrics().refused(code);
    }
    response
}

/// Lets a call pass whose token has the scope, and is not another user's.
async fn authorise(
    State((edge, scope)): State<(Arc<Edge>, Scope)>,
    user: Result<Path<HashMap<String, String>>, PathRejection>,
    request: Request,
    next: Next,
) -> Response {
    let authorization = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let user = user.map(|Path(parts)| parts.get("user").cloned()).unwrap_or_default();
    let principal = edge.options.access.principal(authorization, &edge.options.site);
    match principal.and_then(|principal| principal.may(scope, user.as_deref())) {
        Ok(()) => next.run(request).await,
        Err(error) => Refused(error).into_response(),
    }
}

/// Reads the user's name.
fn read_user(user: Result<Path<String>, PathRejection>) -> Result<String, EdgeError> {
    let Path(user) = user.map_err(|_| EdgeError::UserName { bytes: 0, limit: USER_BYTES_MAX })?;
    if user.is_empty() || user.len() > USER_BYTES_MAX || user.chars().any(char::is_control) {
        return Err(EdgeError::UserName { bytes: user.len(), limit: USER_BYTES_MAX });
    }
    Ok(user)
}
