//! The module of the npm package: what `nearfield-binding` exports.
//!
//! It is a crate of its own, since the crate that is linked last decides how the loops of all are optimised: this one
//! says "for speed", and holds nothing; the binding says "for size" (`[profile.wasm]`).

#![cfg_attr(target_arch = "wasm32", no_std)]

pub use nearfield_binding::*;
