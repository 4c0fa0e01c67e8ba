//! Typed errors, one for each boundary. Each names the field and the limit.

use crate::ids::{Lineage, ModelVersion, Row};
use alloc::string::String;
use core::fmt;
use serde::{Deserialize, Serialize};

/// Returns what an error says besides its code and its field; on wasm32 nothing, since a page shows only those two
/// and need not download the rest.
pub(crate) fn in_words(text: impl FnOnce() -> &'static str) -> &'static str {
    if cfg!(target_arch = "wasm32") { "" } else { text() }
}

macro_rules! errors {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident $({ $($field:ident : $ty:ty),* $(,)? })? => $label:literal, $text:literal;)* } $($derive:ident)*) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq $(, $derive)*)]
        pub enum $name {
            $($(#[$vdoc])* #[allow(missing_docs, reason = "the fields are the numbers that the text prints")] $variant $({ $($field: $ty),* })?,)*
        }

        impl $name {
            /// Returns a short stable name, for metrics and for callers' code.
            pub fn reason(&self) -> &'static str {
                match self {
                    $(Self::$variant $({ $($field: _),* })? => $label,)*
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$variant $({ $($field),* })? => write!(f, $text),)*
                }
            }
        }

        impl core::error::Error for $name {}
    };
}

errors! {
    /// Why an event was refused. Nothing was changed.
    EventError {
        /// The name is neither a plain kind nor an event of GA4.
        UnknownKind { name: String } => "unknown_kind", "kind {name:?} is unknown";
        /// No item was named.
        EmptyItemId => "empty_item_id", "item_id is empty";
        /// A text is longer than its limit.
        TooLong { field: &'static str, bytes: usize, limit: usize } => "too_long", "{field} has {bytes} bytes, the limit is {limit}";
        /// NaN or infinite.
        NonFiniteValue => "non_finite_value", "value is not a finite number";
        /// More than a day ahead of the receiver's clock.
        InTheFuture { time_ms: u64, limit_ms: u64 } => "in_the_future", "time_ms {time_ms} lies more than a day ahead, the limit is {limit_ms}";
    }
}

errors! {
    /// Why a stored user state could not be restored.
    StateError {
        /// Not a Nearfield user state.
        Foreign => "foreign", "these bytes are not a Nearfield user state";
        /// Written by a newer engine.
        NewerSchema { found: u16, known: u16 } => "newer_schema", "user state has schema {found}, the newest known here is {known}";
        /// Cut off or damaged.
        Damaged { what: &'static str } => "damaged", "user state is damaged: {what}";
    }
}

errors! {
    /// Why a model pack was refused.
    PackError {
        /// Not a Nearfield pack.
        Foreign => "foreign", "these bytes are not a Nearfield model pack";
        /// A format that this engine does not know.
        UnknownFormat { found: u16, known: u16 } => "unknown_format", "model pack has format {found}, known is {known}";
        /// Shorter or longer than its header says.
        Length { found: u64, expected: u64 } => "length", "model pack has {found} bytes, its header says {expected}";
        /// The checksum does not match.
        Checksum => "checksum", "model pack is damaged: its checksum does not match";
        /// A field is out of its range.
        Field { field: &'static str, limit: &'static str } => "field", "model pack field {field} is out of range: {limit}";
    }
}

errors! {
    /// Why a patch was refused. The model is unchanged.
    PatchError {
        /// Not a Nearfield patch.
        Foreign => "foreign", "these bytes are not a Nearfield model patch";
        /// Cut off or damaged.
        Damaged { what: &'static str } => "damaged", "model patch is damaged: {what}";
        /// Made for another lineage.
        WrongLineage { found: Lineage, held: Lineage } => "wrong_lineage", "patch belongs to lineage {found}, the model held is of {held}";
        /// Made for another version.
        WrongVersion { from: ModelVersion, held: ModelVersion } => "wrong_version", "patch starts at version {from}, the model held is {held}";
    }
}

errors! {
    /// Why a sync body could not be encoded.
    WireError {
        /// The body would be larger than a server takes.
        TooLarge { bytes: usize, limit: usize } => "too_large", "sync body has {bytes} bytes, the limit is {limit}";
        /// A field is out of its range.
        Field { field: &'static str, found: usize, limit: usize } => "field", "sync field {field} is {found}, the limit is {limit}";
    }
}

errors! {
    /// Why a sync body could not be decoded. Nothing was changed.
    DecodeError {
        /// Larger than the limit; nothing was parsed.
        TooLarge { bytes: usize, limit: usize } => "too_large", "sync body has {bytes} bytes, the limit is {limit}";
        /// Does not begin with the magic of its kind.
        Foreign => "foreign", "sync body does not begin with the magic NFSY";
        /// A format that this engine does not know.
        UnknownFormat { found: u16, known: u16 } => "unknown_format", "sync body has format {found}, known is {known}";
        /// Cut off, trailing bytes, or not a value of the type.
        Malformed => "malformed", "sync body is malformed";
        /// Decodes, but is not the canonical encoding of its value.
        NotCanonical => "not_canonical", "sync body is not in canonical form";
        /// A field is out of its range.
        Field { field: &'static str, found: usize, limit: usize } => "field", "sync field {field} is {found}, the limit is {limit}";
    }
}

errors! {
    /// Why a signed manifest, or a file that it names, was refused. The last good model stays.
    ManifestError {
        /// Not a Nearfield manifest.
        Foreign => "foreign", "these bytes are not a Nearfield manifest";
        /// Cut off or damaged.
        Damaged => "damaged", "manifest is damaged";
        /// A format that this engine does not know.
        UnknownFormat { found: u16, known: u16 } => "unknown_format", "manifest has format {found}, known is {known}";
        /// The public key is not a valid point.
        BadKey => "bad_key", "the public key is not a valid ed25519 key";
        /// The signature does not verify.
        BadSignature => "bad_signature", "manifest signature does not verify with the given key";
        /// Made for another site.
        WrongSite { found: String } => "wrong_site", "manifest is for site {found:?}";
        /// Its time of validity is over.
        Expired { not_after_ms: u64, now_ms: u64 } => "expired", "manifest expired at {not_after_ms}, now is {now_ms}";
        /// Issued in the future, by the client's clock.
        InTheFuture { issued_ms: u64, now_ms: u64 } => "in_the_future", "manifest was issued at {issued_ms}, more than a day after now, {now_ms}";
        /// Would hold for too long.
        TooLong { holds_ms: u64, limit_ms: u64 } => "too_long", "manifest holds for {holds_ms} ms, the limit is {limit_ms}";
        /// Issued before the one accepted last.
        Older { issued_ms: u64, held_ms: u64 } => "older", "manifest was issued at {issued_ms}, the one held at {held_ms}";
        /// Offers an older version than the one held.
        Rollback { offered: ModelVersion, held: ModelVersion } => "rollback", "manifest offers version {offered}, version {held} is held already";
        /// The file's length is not the manifest's.
        Length { found: u64, expected: u64 } => "length", "model file has {found} bytes, the manifest says {expected}";
        /// The file's hash is not the manifest's.
        Hash => "hash", "model file does not match the manifest's hash";
        /// The pack holds another model than the manifest says.
        OtherModel { lineage: Lineage, version: ModelVersion } => "other_model", "pack holds version {version} of lineage {lineage}, the manifest says another";
        /// A patch led to another model than the one that was signed.
        Patched => "patched", "the patched model is not the one that was signed";
    }
}

/// Why a model could not be brought up to the manifest. The last good model stays.
#[derive(Clone, Debug, PartialEq)]
pub enum UpdateError {
    /// A file is not the one that was signed.
    Manifest(ManifestError),
    /// The pack is the one that was signed, but this engine refuses it.
    Pack(PackError),
    /// The patch is the one that was signed, but does not fit.
    Patch(PatchError),
}

impl UpdateError {
    /// Returns a short stable name, for metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Manifest(error) => error.reason(),
            Self::Pack(_) => "pack",
            Self::Patch(_) => "patch",
        }
    }
}

impl fmt::Display for UpdateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manifest(error) => error.fmt(f),
            Self::Pack(error) => error.fmt(f),
            Self::Patch(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for UpdateError {}

impl From<ManifestError> for UpdateError {
    fn from(error: ManifestError) -> Self {
        Self::Manifest(error)
    }
}

impl From<PackError> for UpdateError {
    fn from(error: PackError) -> Self {
        Self::Pack(error)
    }
}

impl From<PatchError> for UpdateError {
    fn from(error: PatchError) -> Self {
        Self::Patch(error)
    }
}

errors! {
    /// Why an item could not be registered or withdrawn.
    CatalogError {
        /// No id.
        EmptyItemId => "empty_item_id", "item_id is empty";
        /// The id is too long.
        TooLong { bytes: usize, limit: usize } => "too_long", "item_id has {bytes} bytes, the limit is {limit}";
        /// Another item has the same 64-bit key.
        KeyCollision { item_id: String, other: String } => "key_collision", "item_id {item_id:?} has the same key as {other:?}; rename one of them";
        /// The catalogue is full.
        Full { limit: usize } => "full", "the catalogue holds {limit} rows, the limit";
        /// No such item.
        Unknown { item_id: String } => "unknown", "item_id {item_id:?} is not in the catalogue";
    }
}

errors! {
    /// Why private statistics could not be read.
    MergeError {
        /// Not Nearfield statistics.
        Foreign => "foreign", "these bytes are not Nearfield statistics";
        /// Cut off or damaged.
        Damaged { what: &'static str } => "damaged", "statistics are damaged: {what}";
        /// Statistics and model do not belong together.
        Mismatch { statistics: ModelVersion, model: ModelVersion } => "mismatch", "statistics are of version {statistics}, the model is {model}";
    }
}

errors! {
    /// Why a well-formed delta was refused, finally: its content is never sent again.
    Refusal {
        /// Another lineage.
        WrongLineage { found: Lineage, current: Lineage } => "wrong_lineage", "delta is of lineage {found}, the current one is {current}";
        /// Based on a version no longer kept.
        Stale { base: ModelVersion, oldest: ModelVersion } => "stale", "delta is based on model {base}, but the oldest model kept is {oldest}";
        /// Based on a version not published yet.
        FromTheFuture { base: ModelVersion, latest: ModelVersion } => "from_the_future", "delta is based on model {base}, the latest is {latest}";
        /// The factor's length is not the model's.
        FactorLength { found: u32, expected: u32 } => "factor_length", "factor has {found} numbers, the model has {expected}";
        /// The scale is NaN, infinite, zero or negative.
        FactorScale => "factor_scale", "factor_scale is not a finite positive number";
        /// The norm of the factor is above the bound.
        FactorNorm { found: f32, limit: f32 } => "factor_norm", "factor has norm {found}, the limit is {limit}";
        /// No items, or too many.
        ItemCount { found: u32, limit: u32 } => "item_count", "delta has {found} items, the limit is 1 to {limit}";
        /// A row that is not in the catalogue.
        UnknownRow { row: Row, rows: u32 } => "unknown_row", "delta names row {row}, the catalogue has {rows}";
        /// One item is named too often.
        Repeats { row: Row, found: u32, limit: u32 } => "repeats", "delta names row {row} {found} times, the limit is {limit}";
        /// A kind that does not enter the history.
        UnknownKind { kind: u8 } => "unknown_kind", "delta names kind {kind}, which does not enter a history";
        /// Not in (0, 1].
        Share { found: f32 } => "share", "share is {found}, it must be above 0 and at most 1";
        /// The rank bins do not add up.
        Metrics { found: u32, limit: u32 } => "metrics", "rank bins add up to {found}, the limit is {limit}";
    }
    Serialize Deserialize
}
