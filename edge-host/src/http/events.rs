//! Telling events, and the list that follows from them.

use super::{Answered, Asked, json_body};
use crate::error::EdgeError;
use crate::service::messages::{Call, Counts, EventIn, EventsCall, ListIn, ObserveCall, Observed};
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

/// One event, or several.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes the body; it is read event by event, for errors that name the event")]
pub(super) enum EventsBody {
    One(EventIn),
    Several(Vec<EventIn>),
}

/// Events, and what the list after them is to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ObserveBody {
    #[schema(value_type = EventsBody)]
    events: Value,
    #[serde(default)]
    list: ListIn,
}

/// Learns events of a user; they are durable when this answers.
#[utoipa::path(
    post, path = "/v1/users/{user}/events", tag = "events",
    params(("user" = String, Path, description = "1 to 128 bytes without control characters")),
    request_body = inline(EventsBody),
    responses((status = 200, body = Counts), (status = "4XX", body = super::Failure), (status = "5XX", body = super::Failure)),
)]
pub(super) async fn events(asked: Asked, body: Result<Bytes, BytesRejection>) -> Answered {
    let user = asked.user()?;
    let events = read_events(json_body(body)?)?;
    asked.answer(Call::Events(EventsCall { user, events })).await
}

/// Learns events of a user and makes the list that follows from them, in one step.
#[utoipa::path(
    post, path = "/v1/users/{user}/observe", tag = "events",
    params(("user" = String, Path, description = "1 to 128 bytes without control characters")),
    request_body = inline(ObserveBody),
    responses((status = 200, body = Observed), (status = "4XX", body = super::Failure), (status = "5XX", body = super::Failure)),
)]
pub(super) async fn observe(asked: Asked, body: Result<Bytes, BytesRejection>) -> Answered {
    let user = asked.user()?;
    let ObserveBody { events, list } = json_body(body)?;
    asked.answer(Call::Observe(ObserveCall { user, events: read_events(events)?, list })).await
}

/// Reads one event or an array of them; an error names the event.
fn read_events(value: Value) -> Result<Vec<EventIn>, EdgeError> {
    let values = match value {
        Value::Array(values) => values,
        one => vec![one],
    };
    let read = |(index, value)| {
        serde_json::from_value(value)
            .map_err(|error| EdgeError::EventField { index, message: error.to_string() })
    };
    values.into_iter().enumerate().map(read).collect()
}
