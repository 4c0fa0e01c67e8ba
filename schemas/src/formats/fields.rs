//! The fields of the contract by their names, as Avro and JSON have them.

use crate::event::{Context, StreamEvent};
use crate::refusal::Refusal;
use nearfield_engine::{Event, Kind};
use serde::{Deserialize, Serialize};

/// An event whose kind is written as `K`.
#[derive(Serialize, Deserialize)]
#[serde(rename = "Event")]
pub(super) struct Fields<K> {
    user_id: String,
    pub(super) kind: K,
    #[serde(default)]
    item_id: String,
    time_ms: i64,
    #[serde(default)]
    event_id: Option<String>,
    #[serde(default)]
    value: Option<f32>,
    #[serde(default)]
    session_id: Option<String>,
    #[serde(default)]
    query: Option<String>,
    #[serde(default)]
    context: Option<Context>,
}

impl<K> Fields<K> {
    pub(super) fn new(event: &StreamEvent, kind: impl FnOnce(Kind) -> K) -> Self {
        let StreamEvent { user_id, event, query, context } = event;
        Self {
            user_id: user_id.clone(),
            kind: kind(event.kind),
            item_id: event.item_id.clone(),
            time_ms: event.time_ms as i64,
            event_id: event.event_id.clone(),
            value: event.value,
            session_id: event.session_id.clone(),
            query: query.clone(),
            context: (*context != Context::default()).then(|| context.clone()),
        }
    }

    pub(super) fn event(self, kind: impl FnOnce(K) -> Result<Kind, Refusal>) -> Result<StreamEvent, Refusal> {
        let event = Event {
            kind: kind(self.kind)?,
            time_ms: time(self.time_ms)?,
            item_id: self.item_id,
            event_id: self.event_id,
            value: self.value,
            session_id: self.session_id,
        };
        let context = self.context.unwrap_or_default();
        Ok(StreamEvent { user_id: self.user_id, event, query: self.query, context })
    }
}

/// Reads a time, which files and wires have with a sign.
pub(super) fn time(time_ms: i64) -> Result<u64, Refusal> {
    u64::try_from(time_ms)
        .map_err(|_| Refusal::field("time_ms", format_args!("is {time_ms}, the limit is 0")))
}
