//! From the bytes of a record to a checked event.

use crate::event::StreamEvent;
use crate::formats::{avro, json, protobuf};
use crate::frame::{self, SchemaId};
use crate::refusal::{Reason, Refusal};
use crate::registry::{Registry, RegistryError, SchemaType};
use std::collections::HashMap;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

/// Most bytes of a record's value: the largest event that keeps to its limits has some 4 KiB.
pub const VALUE_BYTES_MAX: usize = 16 * 1024;
/// Time for which a schema that no registry has is not asked for again (choice: a producer that registers its schema
/// after its first record waits as long).
const ABSENT_FOR: Duration = Duration::from_secs(10);
/// Most schemas whose absence is remembered (choice: hostile records name any of four milliard).
const ABSENT_MAX: usize = 10_000;

/// How the records of a topic say what they are written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// In the Confluent wire format: Avro or Protobuf, as the schema of the id says.
    Confluent,
    /// JSON without a schema id.
    Json,
}

/// Why a record gave no event.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DecodeError {
    /// It never will: it is to be put aside.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The registry does not answer: it is to be read again later.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// Reads records.
pub struct Decoder {
    framing: Framing,
    registry: Arc<dyn Registry>,
    known: RwLock<HashMap<SchemaId, Known>>,
}

#[derive(Clone)]
enum Known {
    Avro(Arc<avro::Reader>),
    Protobuf(Arc<protobuf::Reader>),
    /// Its records are refused.
    Refused(Refusal),
    /// No registry had it at this time.
    Absent(Instant),
}

impl Decoder {
    /// Returns a decoder of a topic's records.
    pub fn new(framing: Framing, registry: Arc<dyn Registry>) -> Self {
        Self { framing, registry, known: RwLock::default() }
    }

    /// Reads and checks a record.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub async fn decode(
        &self,
        key: Option<&[u8]>,
        value: &[u8],
        now_ms: u64,
    ) -> Result<StreamEvent, DecodeError> {
        if value.len() > VALUE_BYTES_MAX {
            let message = format!("{} bytes, the limit is {VALUE_BYTES_MAX}", value.len());
            return Err(Refusal::new(Reason::TooLarge, message).into());
        }
        let event = match self.framing {
            Framing::Json => json::read(value)?,
            Framing::Confluent => {
                let (id, written) = frame::split(value)?;
                match self.schema(id).await? {
                    Known::Avro(reader) => reader.read(written)?,
                    Known::Protobuf(reader) => reader.read(written)?,
                    Known::Refused(refusal) => return Err(refusal.into()),
                    Known::Absent(_) => {
                        let message = format!("the registry has no schema {} in Avro or Protobuf", id.0);
                        return Err(Refusal::new(Reason::UnknownSchema, message).into());
                    }
                }
            }
        };
        event.check(now_ms)?;
        if key != Some(event.user_id.as_bytes()) {
            let message =
                if key.is_some() { "the key is not the event's user_id" } else { "there is no key" };
            return Err(Refusal::new(Reason::Key, message).into());
        }
        Ok(event)
    }

    /// Returns what is known of a schema, asking the registry the first time.
    async fn schema(&self, id: SchemaId) -> Result<Known, RegistryError> {
        let known = self.known.read().expect("no holder panics").get(&id).cloned();
        match known {
            Some(Known::Absent(since)) if since.elapsed() >= ABSENT_FOR => {}
            Some(known) => return Ok(known),
            None => {}
        }
        let known = match self.registry.schema(id).await? {
            None => Known::Absent(Instant::now()),
            Some(schema) => {
                let read = match schema.kind {
                    SchemaType::Avro => {
                        avro::Reader::new(&schema.text).map(|reader| Known::Avro(Arc::new(reader)))
                    }
                    SchemaType::Protobuf => {
                        protobuf::Reader::new(&schema.text).map(|reader| Known::Protobuf(Arc::new(reader)))
                    }
                };
                let named = |refusal: Refusal| Refusal {
                    message: format!("schema {}: {}", id.0, refusal.message),
                    ..refusal
                };
                read.unwrap_or_else(|refusal| Known::Refused(named(refusal)))
            }
        };
        let mut all = self.known.write().expect("no holder panics");
        if all.len() >= ABSENT_MAX {
            all.retain(|_, known| !matches!(known, Known::Absent(_)));
        }
        all.insert(id, known.clone());
        Ok(known)
    }
}
