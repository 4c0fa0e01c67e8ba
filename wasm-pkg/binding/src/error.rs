//! The engine's typed errors as one line of text, which JavaScript makes its own error of: `code field limit`,
//! field and limit where there are any. So no message is formatted here, and no text of one is shipped.

use crate::text;
use alloc::string::String;
use nearfield_engine::{
    DecodeError, EventError, ManifestError, PackError, PatchError, StateError, UpdateError, WireError,
};
use wasm_bindgen::JsValue;

/// Returns the error `boundary.reason`.
pub(crate) fn coded(boundary: &str, reason: &str, field: &str, limit: Option<u64>) -> JsValue {
    let mut text = String::new();
    for part in [boundary, ".", reason, " ", field, " "] {
        text.push_str(part);
    }
    if let Some(limit) = limit {
        text::push_decimal(limit, &mut text);
    }
    JsValue::from_str(&text)
}

/// An engine error that JavaScript can branch on.
pub(crate) trait IntoJs {
    /// Returns the error as JavaScript reads it.
    fn into_js(self) -> JsValue;
}

impl IntoJs for EventError {
    fn into_js(self) -> JsValue {
        let (field, limit) = match self {
            Self::UnknownKind { .. } => ("kind", None),
            Self::EmptyItemId => ("item_id", None),
            Self::TooLong { field, limit, .. } => (field, Some(limit as u64)),
            Self::NonFiniteValue => ("value", None),
            Self::InTheFuture { limit_ms, .. } => ("time_ms", Some(limit_ms)),
        };
        coded("event", self.reason(), field, limit)
    }
}

impl IntoJs for WireError {
    fn into_js(self) -> JsValue {
        let (field, limit) = match self {
            Self::TooLarge { limit, .. } => ("", limit),
            Self::Field { field, limit, .. } => (field, limit),
        };
        coded("wire", self.reason(), field, Some(limit as u64))
    }
}

impl IntoJs for PackError {
    fn into_js(self) -> JsValue {
        let field = if let Self::Field { field, .. } = self { field } else { "" };
        coded("pack", self.reason(), field, None)
    }
}

impl IntoJs for UpdateError {
    fn into_js(self) -> JsValue {
        match self {
            Self::Manifest(error) => error.into_js(),
            Self::Pack(error) => error.into_js(),
            Self::Patch(error) => error.into_js(),
        }
    }
}

macro_rules! plain {
    ($($error:ident => $boundary:literal),* $(,)?) => {
        $(impl IntoJs for $error {
            fn into_js(self) -> JsValue {
                coded($boundary, self.reason(), "", None)
            }
        })*
    };
}

plain! {
    DecodeError => "reply",
    ManifestError => "manifest",
    PatchError => "patch",
    StateError => "state",
}
