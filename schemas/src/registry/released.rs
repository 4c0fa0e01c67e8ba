//! The released schemas: `schemas/released/`, as part of the program.

use super::{Registry, RegistryError, Schema, SchemaType};
use crate::frame::SchemaId;
use async_trait::async_trait;

/// Each released schema's id, what it is of, its version, type and text. An entry is never changed: records with its
/// id are out there.
const RELEASED: [(u32, Of, u32, SchemaType, &str); 3] = [
    (1, Of::Event, 1, SchemaType::Avro, include_str!("../../released/event-1.avsc")),
    (2, Of::Event, 1, SchemaType::Protobuf, include_str!("../../released/event-1.proto")),
    (3, Of::Features, 1, SchemaType::Avro, include_str!("../../released/features-1.avsc")),
];

/// What a released schema is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// An event.
    Event,
    /// The features of an event.
    Features,
}

/// Returns every released version with what it is of and its schema, oldest first.
pub fn released() -> impl Iterator<Item = (Of, u32, Schema)> {
    RELEASED
        .into_iter()
        .map(|(_, of, version, kind, text)| (of, version, Schema { kind, text: text.to_owned() }))
}

/// The registry of the released schemas.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReleasedSchemas;

#[async_trait]
impl Registry for ReleasedSchemas {
    async fn schema(&self, id: SchemaId) -> Result<Option<Schema>, RegistryError> {
        let found = RELEASED.into_iter().find(|(released, ..)| *released == id.0);
        Ok(found.map(|(.., kind, text)| Schema { kind, text: text.to_owned() }))
    }

    async fn register(&self, _subject: &str, schema: &Schema) -> Result<SchemaId, RegistryError> {
        let found =
            RELEASED.into_iter().rfind(|(.., kind, text)| *kind == schema.kind && *text == schema.text);
        found.map(|(id, ..)| SchemaId(id)).ok_or(RegistryError::Unreleased { kind: schema.kind })
    }
}
