//! The rows of the topic of features, in Avro in the Confluent wire format.

use crate::formats::avro::{all_read, malformed};
use crate::frame::{self, SchemaId};
use crate::refusal::{Reason, Refusal};
use crate::registry;
use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::writer::datum::GenericDatumWriter;
use nearfield_engine::Event;
use nearfield_engine::features::Features;
use serde::{Deserialize, Serialize};
use std::sync::LazyLock;

static OURS: LazyLock<Schema> =
    LazyLock::new(|| Schema::parse_str(registry::FEATURES).expect("the contract is an Avro schema"));

static READER: LazyLock<GenericDatumReader<'static>> =
    LazyLock::new(|| GenericDatumReader::builder(&OURS).build().expect("the contract stands by itself"));

static WRITER: LazyLock<GenericDatumWriter<'static>> =
    LazyLock::new(|| GenericDatumWriter::builder(&OURS).build().expect("the contract stands by itself"));

/// The features of one event, with the event that they are of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeatureRow {
    /// The person.
    pub user_id: String,
    /// The event's item; empty for a search.
    pub item_id: String,
    /// What happened, by its plain name.
    pub kind: String,
    /// When, in milliseconds since 1970-01-01 UTC.
    pub time_ms: i64,
    /// The event's own name.
    pub event_id: Option<String>,
    /// Partition of the topic of events that it came from.
    pub partition: i32,
    /// Offset there.
    pub offset: i64,
    /// The features.
    pub features: Features,
}

impl FeatureRow {
    /// Returns the row of an event that came from a place of the topic of events.
    pub fn new(user_id: &str, event: &Event, partition: i32, offset: i64, features: Features) -> Self {
        Self {
            user_id: user_id.to_owned(),
            item_id: event.item_id.clone(),
            kind: event.kind.as_str().to_owned(),
            time_ms: event.time_ms as i64,
            event_id: event.event_id.clone(),
            partition,
            offset,
            features,
        }
    }

    /// Returns the row as the value of a record, with the id under which the registry has [`registry::FEATURES`].
    pub fn encode(&self, id: SchemaId) -> Vec<u8> {
        let mut value = frame::head(id).to_vec();
        WRITER.write_ser(&mut value, self).expect("the fields are those of the contract");
        value
    }

    /// Reads the value of a record that this version of the contract wrote.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn decode(value: &[u8], id: SchemaId) -> Result<Self, Refusal> {
        let (found, mut bytes) = frame::split(value)?;
        if found != id {
            let message = format!("schema {} is not {}, that of features", found.0, id.0);
            return Err(Refusal::new(Reason::Schema, message));
        }
        let row = READER.read_deser(&mut bytes).map_err(malformed)?;
        all_read(bytes)?;
        Ok(row)
    }
}
