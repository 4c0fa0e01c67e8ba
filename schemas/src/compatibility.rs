//! Whether what one version of a schema wrote can be read with another one (BACKWARD, as Confluent's registries call
//! it): the new version reads what every released one wrote.

use crate::formats;
use crate::registry::{Schema, SchemaType};
use apache_avro::Schema as Avro;
use apache_avro::schema::{RecordField, SchemaKind};
use apache_avro::schema_compatibility::{Compatibility, SchemaCompatibility};
use prost_reflect::{Cardinality, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use std::error::Error;
use std::fmt;

/// Why a schema cannot read what another one wrote; names the field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incompatible(String);

impl fmt::Display for Incompatible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for Incompatible {}

/// Checks that `new` reads what `old` wrote.
///
/// # Errors
/// [`Incompatible`] with the first field that it cannot read.
pub fn backward(old: &Schema, new: &Schema) -> Result<(), Incompatible> {
    match (old.kind, new.kind) {
        (SchemaType::Avro, SchemaType::Avro) => {
            let parse = |text: &str| Avro::parse_str(text).map_err(|error| Incompatible(error.to_string()));
            avro(&parse(&old.text)?, &parse(&new.text)?, &[])
        }
        (SchemaType::Protobuf, SchemaType::Protobuf) => {
            let message = |text: &str| formats::protobuf::message_of(text).map_err(Incompatible);
            protobuf(&message(&old.text)?, &message(&new.text)?)
        }
        (old, new) => Err(Incompatible(format!("{} cannot read {}", new.as_str(), old.as_str()))),
    }
}

/// Checks by Avro's rules of resolution, and more strictly where they would lose something: a symbol that is gone is
/// refused, although the enum's default could stand for it.
fn avro(old: &Avro, new: &Avro, path: &[&str]) -> Result<(), Incompatible> {
    let field =
        || if path.is_empty() { "the record".to_owned() } else { format!("field {:?}", path.join(".")) };
    match (old, new) {
        (Avro::Record(old), Avro::Record(new)) if old.name.name() == new.name.name() => {
            new.fields.iter().try_for_each(|is| {
                let path = [path, &[is.name.as_str()]].concat();
                let named = |was: &&RecordField| was.name == is.name || is.aliases.contains(&was.name);
                match old.fields.iter().find(named) {
                    Some(was) => avro(&was.schema, &is.schema, &path),
                    None if is.default.is_some() => Ok(()),
                    None => {
                        Err(Incompatible(format!("field {:?} is new and has no default", path.join("."))))
                    }
                }
            })
        }
        (Avro::Enum(old), Avro::Enum(new)) => match old.symbols.iter().find(|was| !new.symbols.contains(was))
        {
            Some(gone) => Err(Incompatible(format!("{} lost {gone} of its enum", field()))),
            None => Ok(()),
        },
        (Avro::Union(old), new) => old.variants().iter().try_for_each(|was| avro(was, new, path)),
        (old, Avro::Union(new)) => {
            let mut like = new.variants().iter().filter(|is| SchemaKind::from(*is) == SchemaKind::from(old));
            match like.next() {
                // What is wrong within it says more than that none fits.
                Some(is) => avro(old, is, path),
                None if new.variants().iter().any(|is| avro(old, is, path).is_ok()) => Ok(()),
                None => {
                    Err(Incompatible(format!("{} cannot be {:?} any more", field(), SchemaKind::from(old))))
                }
            }
        }
        (old, new) => match SchemaCompatibility::can_read(old, new) {
            Ok(Compatibility::Full) => Ok(()),
            _ => {
                let (was, is) = (SchemaKind::from(old), SchemaKind::from(new));
                Err(Incompatible(format!("{} was {was:?} and is {is:?}", field())))
            }
        },
    }
}

/// Checks by the numbers and types of the fields: a number keeps its name and its meaning, and one that is given up is
/// reserved.
pub(crate) fn protobuf(old: &MessageDescriptor, new: &MessageDescriptor) -> Result<(), Incompatible> {
    for was in old.fields() {
        let name = format!("field {:?} ({})", was.name(), was.number());
        let Some(is) = new.get_field(was.number()) else {
            if new.reserved_ranges().any(|range| range.contains(&was.number())) {
                continue;
            }
            return Err(Incompatible(format!("{name} is gone, and its number is not reserved")));
        };
        if is.name() != was.name() {
            return Err(Incompatible(format!("{name} is {:?} now", is.name())));
        }
        if repeated(&is) != repeated(&was) {
            return Err(Incompatible(format!("{name} changed between one and many")));
        }
        match (was.kind(), is.kind()) {
            (Kind::Message(was), Kind::Message(is)) => {
                protobuf(&was, &is).map_err(|Incompatible(inner)| Incompatible(format!("{name}: {inner}")))?
            }
            (Kind::Enum(was), Kind::Enum(is)) => symbols(&name, &was, &is)?,
            (was, is) if reads(&was, &is) => {}
            (was, is) => return Err(Incompatible(format!("{name} was {was:?} and is {is:?}"))),
        }
    }
    let required = new
        .fields()
        .find(|is| is.cardinality() == Cardinality::Required && old.get_field(is.number()).is_none());
    match required {
        Some(is) => Err(Incompatible(format!("field {:?} ({}) is new and required", is.name(), is.number()))),
        None => Ok(()),
    }
}

fn repeated(field: &FieldDescriptor) -> bool {
    field.cardinality() == Cardinality::Repeated
}

fn symbols(name: &str, old: &EnumDescriptor, new: &EnumDescriptor) -> Result<(), Incompatible> {
    let gone = old.values().find(|was| new.get_value(was.number()).is_none_or(|is| is.name() != was.name()));
    match gone {
        Some(was) => Err(Incompatible(format!("{name} lost {} ({}) of its enum", was.name(), was.number()))),
        None => Ok(()),
    }
}

/// Whether every number that one type wrote is the same number in another one.
fn reads(old: &Kind, new: &Kind) -> bool {
    let wider = matches!(
        (old, new),
        (Kind::Int32, Kind::Int64)
            | (Kind::Uint32, Kind::Uint64)
            | (Kind::Sint32, Kind::Sint64)
            | (Kind::String, Kind::Bytes)
    );
    old == new || wider
}
