//! Why a record is not an event.

use std::fmt;

/// What is wrong with a record, in one word of a small set: for counters, and for the header of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// Larger than any event.
    TooLarge,
    /// No key, or one that is not the event's user.
    Key,
    /// No magic byte and schema id before the event.
    Frame,
    /// No registry knows the schema.
    UnknownSchema,
    /// The schema is not one of events, or one that this contract cannot read.
    Schema,
    /// The bytes do not hold what the schema says.
    Malformed,
    /// A kind of event that this contract does not know.
    UnknownKind,
    /// A field out of its limit.
    Field,
    /// A time too far ahead.
    Future,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 9] = [
        Self::TooLarge,
        Self::Key,
        Self::Frame,
        Self::UnknownSchema,
        Self::Schema,
        Self::Malformed,
        Self::UnknownKind,
        Self::Field,
        Self::Future,
    ];

    /// Returns its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::Key => "key",
            Self::Frame => "frame",
            Self::UnknownSchema => "unknown_schema",
            Self::Schema => "schema",
            Self::Malformed => "malformed",
            Self::UnknownKind => "unknown_kind",
            Self::Field => "field",
            Self::Future => "future",
        }
    }
}

/// A record that is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// The same in a sentence, which names the field and the limit.
    pub message: String,
}

impl Refusal {
    /// Returns a refusal.
    pub fn new(reason: Reason, message: impl ToString) -> Self {
        Self { reason, message: message.to_string() }
    }

    pub(crate) fn field(field: &str, what: impl fmt::Display) -> Self {
        Self::new(Reason::Field, format!("{field} {what}"))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason.as_str(), self.message)
    }
}

impl std::error::Error for Refusal {}
