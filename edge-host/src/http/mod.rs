//! The HTTP interface.
//!
//! | call | answer |
//! |---|---|
//! | `POST /v1/users/{user}/events` | one event or an array of up to 1000, at most 256 KiB → counts; on disk when answered |
//! | `GET /v1/users/{user}/recommendations?count=20&scenario=discover` (or `continue`: own items may come too) | the list |
//! | `GET /v1/users/{user}` | what is kept of the user |
//! | `DELETE /v1/users/{user}` | forgets the user |
//! | `GET /healthz`, `/readyz`, `/metrics` | alive; has a model and a sound store; Prometheus text |
//!
//! An event is `{"kind": "view_item", "item_id": "…"}` with the plain or GA4 name of a kind and,
//! where wanted, `event_id`, `time_ms` (default: now), `value` and `session_id`. Any other field is
//! refused, so that a misspelt one is noticed. A batch is checked wholly before any of it counts.
//! What is refused answers `{"code", "error"}`.

use crate::Edge;
use crate::abi::{Inspection, Learnt, List, Recommend};
use crate::error::EdgeError;
use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, FailedToBufferBody, PathRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use nearfield_engine::limits::COUNT_MAX;
use nearfield_engine::{Event, Kind, Scenario};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Instant;

/// Most bytes of a body of events.
pub const EVENTS_BYTES_MAX: usize = 256 * 1024;
/// Most events of a body.
pub const EVENTS_MAX: usize = 1000;
/// Most bytes of a user's name.
pub const USER_BYTES_MAX: usize = 128;

/// Returns the router of an edge; tests call it without a socket.
pub fn app(edge: Arc<Edge>) -> Router {
    Router::new()
        .route("/v1/users/{user}/events", post(learn))
        .route("/v1/users/{user}/recommendations", get(recommend))
        .route("/v1/users/{user}", get(inspect).delete(forget))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
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
        if matches!(self.0, EdgeError::Busy { .. } | EdgeError::NoModel) {
            response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
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

/// One event as callers write it: the time may be left out, and the kind is read by name.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventIn {
    kind: String,
    #[serde(default)]
    item_id: String,
    #[serde(default)]
    event_id: Option<String>,
    #[serde(default)]
    time_ms: Option<u64>,
    #[serde(default)]
    value: Option<f32>,
    #[serde(default)]
    session_id: Option<String>,
}

/// Reads a body and checks every event, before any of them counts.
fn read_events(body: &[u8], now_ms: u64) -> Result<Vec<Event>, EdgeError> {
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| EdgeError::MalformedJson { message: error.to_string() })?;
    let values = match value {
        Value::Array(values) => values,
        one => vec![one],
    };
    if values.is_empty() || values.len() > EVENTS_MAX {
        return Err(EdgeError::EventCount { found: values.len(), limit: EVENTS_MAX });
    }
    let read = |(index, value)| {
        let event: EventIn = serde_json::from_value(value)
            .map_err(|error| EdgeError::EventField { index, message: error.to_string() })?;
        let refused = |error| EdgeError::Event { index, error };
        let event = Event {
            kind: Kind::parse(&event.kind).map_err(refused)?,
            item_id: event.item_id,
            event_id: event.event_id,
            time_ms: event.time_ms.unwrap_or(now_ms),
            value: event.value,
            session_id: event.session_id,
        };
        event.check(now_ms).map_err(refused)?;
        Ok(event)
    };
    values.into_iter().enumerate().map(read).collect()
}

fn read_user(user: Result<Path<String>, PathRejection>) -> Result<String, EdgeError> {
    let Path(user) = user.map_err(|_| EdgeError::UserName { bytes: 0, limit: USER_BYTES_MAX })?;
    if user.is_empty() || user.len() > USER_BYTES_MAX || user.chars().any(char::is_control) {
        return Err(EdgeError::UserName { bytes: user.len(), limit: USER_BYTES_MAX });
    }
    Ok(user)
}

async fn learn(
    State(edge): State<Arc<Edge>>,
    user: Result<Path<String>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Refused> {
    let started = Instant::now();
    let user = read_user(user)?;
    let body = body.map_err(|rejection| match rejection {
        BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)) => {
            EdgeError::BodyTooLarge { limit: EVENTS_BYTES_MAX }
        }
        other => EdgeError::BodyUnreadable { message: other.to_string() },
    })?;
    let now_ms = edge.now_ms();
    let events = read_events(&body, now_ms)?;
    let Learnt { applied, duplicate, context_only, delta_due: _ } = edge.learn(&user, events, now_ms).await?;
    edge.metrics().served("events", started.elapsed());
    Ok(Json(json!({ "applied": applied, "duplicate": duplicate, "context_only": context_only })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecommendQuery {
    #[serde(default = "default_count")]
    count: u32,
    #[serde(default)]
    scenario: Scenario,
}

fn default_count() -> u32 {
    nearfield_engine::Request::default().count
}

async fn recommend(
    State(edge): State<Arc<Edge>>,
    user: Result<Path<String>, PathRejection>,
    query: Result<Query<RecommendQuery>, QueryRejection>,
) -> Result<Json<Value>, Refused> {
    let started = Instant::now();
    let user = read_user(user)?;
    let Query(RecommendQuery { count, scenario }) =
        query.map_err(|rejection| EdgeError::Query { message: rejection.body_text() })?;
    if count == 0 || count > COUNT_MAX {
        let message = format!("count is {count}, the limit is 1 to {COUNT_MAX}");
        return Err(EdgeError::Query { message }.into());
    }
    let name = user.clone();
    let request = Recommend { count, scenario };
    let List { model, items } =
        edge.pool().run(&user, move |worker| worker.recommend(&name, request)).await?;
    let items: Vec<Value> =
        items.into_iter().map(|item| json!({ "item_id": item.item_id, "score": item.score })).collect();
    edge.metrics().served("recommendations", started.elapsed());
    Ok(Json(json!({
        "lineage": model.lineage.to_string(),
        "model_version": model.version.0,
        "items": items,
    })))
}

async fn inspect(
    State(edge): State<Arc<Edge>>,
    user: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Refused> {
    let user = read_user(user)?;
    let name = user.clone();
    let Inspection { model, history, outbox, state_bytes } =
        edge.pool().run(&user, move |worker| worker.inspect(&name)).await?;
    let history: Vec<Value> = history
        .into_iter()
        .map(|seen| {
            // A key is 64 bits: as a number it would lose its end in many JSON readers.
            let key = format!("{:016x}", seen.key);
            json!({ "item_id": seen.item_id, "key": key, "kind": seen.kind, "time_ms": seen.time_ms })
        })
        .collect();
    let outbox: Vec<String> = outbox.iter().map(ToString::to_string).collect();
    Ok(Json(json!({
        "lineage": model.lineage.to_string(),
        "model_version": model.version.0,
        "history": history,
        "outbox": outbox,
        "state_bytes": state_bytes,
    })))
}

async fn forget(
    State(edge): State<Arc<Edge>>,
    user: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Refused> {
    let user = read_user(user)?;
    let forgotten = edge.forget(&user).await?;
    Ok(Json(json!({ "forgotten": forgotten })))
}

async fn ready(State(edge): State<Arc<Edge>>) -> Result<Json<Value>, Refused> {
    if let Some(error) = edge.store_failure() {
        return Err(error.into());
    }
    let held = edge.pool().held().ok_or(EdgeError::NoModel)?;
    Ok(Json(json!({ "lineage": held.info.lineage.to_string(), "model_version": held.info.version.0 })))
}

async fn metrics(State(edge): State<Arc<Edge>>) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    (StatusCode::OK, kind, edge.metrics().render()).into_response()
}
