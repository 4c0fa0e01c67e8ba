//! The three ways in which an event is written.

pub(crate) mod avro;
mod fields;
pub(crate) mod json;
pub(crate) mod protobuf;

use crate::event::StreamEvent;
use crate::frame::{self, SchemaId};

/// How the records of a topic are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Avro in the Confluent wire format.
    Avro,
    /// Protobuf in the Confluent wire format.
    Protobuf,
    /// One JSON object, without a schema id.
    Json,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 3] = [Self::Avro, Self::Protobuf, Self::Json];

    /// Returns its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Avro => "avro",
            Self::Protobuf => "protobuf",
            Self::Json => "json",
        }
    }
}

/// Writes events.
#[derive(Clone, Copy, Debug)]
pub enum Encoder {
    /// As Avro, with the id under which the registry has [`crate::registry::AVRO`].
    Avro(SchemaId),
    /// As Protobuf, with the id under which the registry has [`crate::registry::PROTOBUF`].
    Protobuf(SchemaId),
    /// As JSON.
    Json,
}

impl Encoder {
    /// Returns an event as the value of a record.
    pub fn encode(self, event: &StreamEvent) -> Vec<u8> {
        match self {
            Self::Avro(id) => {
                let mut value = frame::head(id).to_vec();
                avro::write(event, &mut value);
                value
            }
            Self::Protobuf(id) => {
                let mut value = frame::head(id).to_vec();
                // The path of the file's first message.
                value.push(0);
                protobuf::write(event, &mut value);
                value
            }
            Self::Json => json::write(event),
        }
    }
}
