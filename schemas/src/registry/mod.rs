//! Where the schemas are that records were written with: the released ones, which are part of the program, or a
//! Confluent-compatible registry.

mod http;
mod released;

pub use http::HttpRegistry;
pub use released::{Of, ReleasedSchemas, released};

use crate::compatibility::Incompatible;
use crate::frame::SchemaId;
use async_trait::async_trait;

/// The contract in Avro.
pub const AVRO: &str = include_str!("../../event.avsc");
/// The contract in Protobuf.
pub const PROTOBUF: &str = include_str!("../../event.proto");
/// The contract of the rows of features, in Avro.
pub const FEATURES: &str = include_str!("../../features.avsc");

/// What a schema is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaType {
    /// An Avro schema in JSON.
    Avro,
    /// A Protobuf file.
    Protobuf,
}

impl SchemaType {
    /// Returns its word in a registry.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Avro => "AVRO",
            Self::Protobuf => "PROTOBUF",
        }
    }

    /// Returns the type of a registry's word.
    pub fn of_word(word: &str) -> Option<Self> {
        [Self::Avro, Self::Protobuf].into_iter().find(|kind| kind.as_str() == word)
    }
}

/// A schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    /// What it is written in.
    pub kind: SchemaType,
    /// Its text.
    pub text: String,
}

impl Schema {
    /// Returns the contract in Avro.
    pub fn avro() -> Self {
        Self { kind: SchemaType::Avro, text: AVRO.to_owned() }
    }

    /// Returns the contract in Protobuf.
    pub fn protobuf() -> Self {
        Self { kind: SchemaType::Protobuf, text: PROTOBUF.to_owned() }
    }

    /// Returns the contract of the rows of features.
    pub fn features() -> Self {
        Self { kind: SchemaType::Avro, text: FEATURES.to_owned() }
    }
}

/// Why a registry gave nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RegistryError {
    /// It cannot be reached, or does not answer as a registry does.
    #[error("schema registry {registry}: {message}")]
    Away {
        /// Its address.
        registry: String,
        /// What went wrong.
        message: String,
    },
    /// A schema cannot follow the ones before it.
    #[error("the schema cannot follow version {version} of subject {subject:?}: {error}")]
    Incompatible {
        /// The subject.
        subject: String,
        /// The version before it.
        version: u32,
        /// Why, with the field.
        error: Incompatible,
    },
    /// The contract is not among the released schemas.
    #[error("the {} schema is not released: copy it to schemas/released/", kind.as_str())]
    Unreleased {
        /// What it is written in.
        kind: SchemaType,
    },
}

/// Knows schemas by their ids.
#[async_trait]
pub trait Registry: Send + Sync {
    /// Returns the schema of an id; none where there is none, or not one in Avro or Protobuf.
    async fn schema(&self, id: SchemaId) -> Result<Option<Schema>, RegistryError>;

    /// Returns the id of a schema under a subject, where it becomes the newest version if it is not there yet. It must
    /// be able to read what the version before it wrote.
    async fn register(&self, subject: &str, schema: &Schema) -> Result<SchemaId, RegistryError>;
}
