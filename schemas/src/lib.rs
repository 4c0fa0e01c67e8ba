//! What flows through Nearfield's topics: an event of a person, in Avro, Protobuf or JSON, and the features of one.
//!
//! `event.avsc` and `event.proto` are the contract; both say the same. Avro and Protobuf come in the Confluent wire
//! format ([`frame`]): a record names the schema that it was written with by its id, and a [`registry`] knows the
//! schema. Older and newer writers are read as the rules of their format say, as long as
//! [`compatibility`] holds. [`Decoder`] does all of it: bytes of a record to a checked [`StreamEvent`], or to a
//! [`Refusal`] that says why not.

pub mod compatibility;
mod decoder;
pub mod event;
mod features;
mod formats;
pub mod frame;
pub mod kafka;
mod refusal;
pub mod registry;

pub use decoder::{DecodeError, Decoder, Framing, VALUE_BYTES_MAX};
pub use event::{Context, StreamEvent};
pub use features::FeatureRow;
pub use formats::{Encoder, Format};
pub use refusal::{Reason, Refusal};
