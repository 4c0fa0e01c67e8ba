//! JSON: the fields of the contract by their names, the kind by its plain or GA4 name.

use crate::event::StreamEvent;
use crate::formats::fields::Fields;
use crate::refusal::{Reason, Refusal};
use nearfield_engine::Kind;

pub(crate) fn read(bytes: &[u8]) -> Result<StreamEvent, Refusal> {
    let fields: Fields<String> =
        serde_json::from_slice(bytes).map_err(|error| Refusal::new(Reason::Malformed, error))?;
    fields.event(|name| Kind::parse(&name).map_err(|error| Refusal::new(Reason::UnknownKind, error)))
}

pub(crate) fn write(event: &StreamEvent) -> Vec<u8> {
    let fields = Fields::new(event, Kind::as_str);
    serde_json::to_vec(&fields).expect("the fields are texts and numbers")
}
