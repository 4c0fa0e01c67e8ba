//! The engine's typed errors as JavaScript errors with `code`, `field` and `limit`.

use js_sys::{Error, Reflect};
use nearfield_engine::{
    DecodeError, EventError, ManifestError, PackError, PatchError, StateError, UpdateError, WireError,
};
use wasm_bindgen::JsValue;

/// Returns an `Error` whose `code` is `boundary.reason`.
pub(crate) fn coded(boundary: &str, reason: &str, text: &str) -> JsValue {
    let error = Error::new(text).into();
    set(&error, "code", &format!("{boundary}.{reason}").into());
    error
}

/// Returns the error of an argument that is not a number in the required range.
pub(crate) fn bad_number(boundary: &str, field: &str, limit: f64) -> JsValue {
    let text = format!("{field} must be a whole number from 0 to {limit}");
    with(coded(boundary, "bad_number", &text), Some(field), Some(limit))
}

fn with(error: JsValue, field: Option<&str>, limit: Option<f64>) -> JsValue {
    if let Some(field) = field {
        set(&error, "field", &camel_case(field).into());
    }
    if let Some(limit) = limit {
        set(&error, "limit", &limit.into());
    }
    error
}

/// Returns a field's name as JavaScript has it.
fn camel_case(field: &str) -> String {
    let mut words = field.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| name + &word[..1].to_ascii_uppercase() + &word[1..])
}

fn set(error: &JsValue, name: &str, value: &JsValue) {
    // Setting a property of an object that was just made cannot fail.
    let _ = Reflect::set(error, &name.into(), value);
}

/// An engine error that JavaScript can branch on.
pub(crate) trait IntoJs {
    /// Returns the error as a JavaScript `Error`.
    fn into_js(self) -> JsValue;
}

impl IntoJs for EventError {
    fn into_js(self) -> JsValue {
        let error = coded("event", self.reason(), &self.to_string());
        match self {
            Self::UnknownKind { .. } => with(error, Some("kind"), None),
            Self::EmptyItemId => with(error, Some("item_id"), None),
            Self::TooLong { field, limit, .. } => with(error, Some(field), Some(limit as f64)),
            Self::NonFiniteValue => with(error, Some("value"), None),
            Self::InTheFuture { limit_ms, .. } => with(error, Some("time_ms"), Some(limit_ms as f64)),
        }
    }
}

impl IntoJs for WireError {
    fn into_js(self) -> JsValue {
        let error = coded("wire", self.reason(), &self.to_string());
        match self {
            Self::TooLarge { limit, .. } => with(error, None, Some(limit as f64)),
            Self::Field { field, limit, .. } => with(error, Some(field), Some(limit as f64)),
        }
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
                coded($boundary, self.reason(), &self.to_string())
            }
        })*
    };
}

plain! {
    DecodeError => "reply",
    ManifestError => "manifest",
    PackError => "pack",
    PatchError => "patch",
    StateError => "state",
}
