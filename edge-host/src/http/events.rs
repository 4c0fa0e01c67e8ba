//! `POST /v1/users/{user}/events`.

use super::{Refused, read_user};
use crate::Edge;
use crate::abi::Learnt;
use crate::error::EdgeError;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, FailedToBufferBody, PathRejection};
use axum::extract::{Path, State};
use axum::response::Json;
use nearfield_engine::{Event, Kind};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Instant;

/// Most bytes of a body of events.
pub const EVENTS_BYTES_MAX: usize = 256 * 1024;
/// Most events of a body.
pub const EVENTS_MAX: usize = 1000;
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

pub(super) async fn learn(
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
    let Learnt { applied, duplicate, context_only } = edge.learn(&user, events).await?;
    edge.metrics().served("events", started.elapsed());
    Ok(Json(json!({ "applied": applied, "duplicate": duplicate, "context_only": context_only })))
}
