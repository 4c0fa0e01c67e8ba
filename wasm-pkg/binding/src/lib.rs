//! The binding between `nearfield-engine` and JavaScript, as thin as it can be: functions of numbers, texts and
//! arrays. A value of the engine is named by a number, a list crosses as one packed array, and an error as the
//! text of its code.
//!
//! It has no clock, no storage, no network, no randomness and no check of signatures: those are the TypeScript's,
//! in `js/`, which also owns the public API and the words of errors. Nothing here is meant to be called by a page
//! directly.
//!
//! ```text
//! page → js/nearfield.ts → js/core/user.ts, js/core/model.ts → this crate → nearfield-engine
//! ```

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

#[cfg(target_arch = "wasm32")]
mod bare;
mod error;
mod memory;
mod model;
mod packed;
mod text;
mod update;
mod user;

pub use model::*;
pub use update::*;
pub use user::*;

/// Returns the digest of the recommendations of a recorded trace, which is the same on every host.
#[cfg(feature = "golden")]
#[wasm_bindgen::prelude::wasm_bindgen(js_name = goldenDigest)]
pub fn golden_digest() -> alloc::string::String {
    nearfield_engine::golden::digest()
}
