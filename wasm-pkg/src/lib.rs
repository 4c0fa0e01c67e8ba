//! The binding between `nearfield-engine` and JavaScript, as thin as it can be: classes that hold
//! the engine's values, typed arrays for what is bulky, and errors with a stable `code`.
//!
//! It has no clock, no storage, no network and no randomness: those are the TypeScript's, in `js/`,
//! which also owns the public API. Nothing here is meant to be called by a page directly.
//!
//! ```text
//! page → js/nearfield.ts → js/user.ts, js/model.ts → this crate → nearfield-engine
//! ```

mod error;
mod manifest;
mod model;
mod object;
mod user;

pub use manifest::Manifest;
pub use model::Model;
pub use user::{User, check_event};

/// Returns the digest of the recommendations of a recorded trace, which is the same on every host.
#[cfg(feature = "golden")]
#[wasm_bindgen::prelude::wasm_bindgen(js_name = goldenDigest)]
pub fn golden_digest() -> String {
    nearfield_engine::golden::digest()
}
