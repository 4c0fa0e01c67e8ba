//! Avro. A record that an older or newer schema wrote is first brought to the contract's by Avro's rules of resolution.

use crate::decoder::VALUE_BYTES_MAX;
use crate::event::StreamEvent;
use crate::formats::fields::Fields;
use crate::refusal::{Reason, Refusal};
use crate::registry;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::schema_compatibility::SchemaCompatibility;
use apache_avro::writer::datum::GenericDatumWriter;
use apache_avro::{Error, Schema};
use nearfield_engine::Kind;
use serde::{Deserialize, Serialize};
use std::sync::LazyLock;

/// The contract.
pub(crate) static OURS: LazyLock<Schema> =
    LazyLock::new(|| Schema::parse_str(registry::AVRO).expect("the contract is an Avro schema"));

static READER: LazyLock<GenericDatumReader<'static>> =
    LazyLock::new(|| GenericDatumReader::builder(&OURS).build().expect("the contract stands by itself"));

static WRITER: LazyLock<GenericDatumWriter<'static>> =
    LazyLock::new(|| GenericDatumWriter::builder(&OURS).build().expect("the contract stands by itself"));

/// The kinds as Avro has them.
#[derive(Serialize, Deserialize)]
#[serde(rename = "Kind", rename_all = "UPPERCASE")]
enum Symbol {
    Unspecified,
    View,
    Click,
    Cart,
    Uncart,
    Purchase,
    Impression,
    Dismiss,
    Search,
}

/// Reads what was written with one schema.
pub(crate) struct Reader {
    /// Brings a record to the contract's schema; none where it has it.
    resolve: Option<GenericDatumReader<'static>>,
}

impl Reader {
    /// Returns the reader of what a schema wrote.
    ///
    /// # Errors
    /// [`Reason::Schema`] where the contract cannot read it, with the field.
    pub(crate) fn new(text: &str) -> Result<Self, Refusal> {
        let refused = |error: Error| Refusal::new(Reason::Schema, error);
        let writer = Schema::parse_str(text).map_err(refused)?;
        SchemaCompatibility::can_read(&writer, &OURS).map_err(|error| Refusal::new(Reason::Schema, error))?;
        if writer == *OURS {
            return Ok(Self { resolve: None });
        }
        // Schemas are few, and in use as long as the program runs.
        let writer: &'static Schema = Box::leak(Box::new(writer));
        let resolve = GenericDatumReader::builder(writer).reader_schema(&OURS).build().map_err(refused)?;
        Ok(Self { resolve: Some(resolve) })
    }

    pub(crate) fn read(&self, bytes: &[u8]) -> Result<StreamEvent, Refusal> {
        // A text that claims more than a whole record has is refused before there is room for it.
        apache_avro::util::max_allocation_bytes(VALUE_BYTES_MAX);
        let Some(resolve) = &self.resolve else { return read(bytes) };
        let mut rest = bytes;
        let value = resolve.read_value(&mut rest).map_err(malformed)?;
        all_read(rest)?;
        read(&WRITER.write_value_to_vec(value).map_err(malformed)?)
    }
}

fn read(mut bytes: &[u8]) -> Result<StreamEvent, Refusal> {
    let fields: Fields<Symbol> = READER.read_deser(&mut bytes).map_err(malformed)?;
    all_read(bytes)?;
    fields.event(|symbol| match symbol {
        Symbol::Unspecified => Err(Refusal::new(Reason::UnknownKind, "kind is none that this version knows")),
        Symbol::View => Ok(Kind::View),
        Symbol::Click => Ok(Kind::Click),
        Symbol::Cart => Ok(Kind::Cart),
        Symbol::Uncart => Ok(Kind::Uncart),
        Symbol::Purchase => Ok(Kind::Purchase),
        Symbol::Impression => Ok(Kind::Impression),
        Symbol::Dismiss => Ok(Kind::Dismiss),
        Symbol::Search => Ok(Kind::Search),
    })
}

pub(crate) fn write(event: &StreamEvent, output: &mut Vec<u8>) {
    let fields = Fields::new(event, |kind| match kind {
        Kind::View => Symbol::View,
        Kind::Click => Symbol::Click,
        Kind::Cart => Symbol::Cart,
        Kind::Uncart => Symbol::Uncart,
        Kind::Purchase => Symbol::Purchase,
        Kind::Impression => Symbol::Impression,
        Kind::Dismiss => Symbol::Dismiss,
        Kind::Search => Symbol::Search,
    });
    WRITER.write_ser(output, &fields).expect("the fields are those of the contract");
}

pub(crate) fn malformed(error: Error) -> Refusal {
    Refusal::new(Reason::Malformed, error)
}

pub(crate) fn all_read(rest: &[u8]) -> Result<(), Refusal> {
    if rest.is_empty() {
        return Ok(());
    }
    Err(Refusal::new(Reason::Malformed, format!("{} bytes follow the event", rest.len())))
}
