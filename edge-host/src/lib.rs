//! The edge host: Nearfield's core for many users, on a server of the site's own.
//!
//! The core runs as a WebAssembly guest in wasmtime, one instance a worker thread, bounded in memory
//! and time. Around it stand a store for the users' states, an HTTP interface, and a loop that syncs
//! with central. The paths:
//!
//! ```text
//! out    http → pool (the user's worker) → guest: learn → store → 200        guest: recommend → list
//! back   sync: take delta → store → POST /v1/sync → settle → store
//! model  sync: manifest → patch or pack → verify → model.pack on disk → every instance
//! ```
//!
//! # What holds
//! - Events answered with 200 are on disk. What was refused changed nothing.
//! - A delta is on disk before it is first sent, and leaves the outbox only on central's answer.
//! - Central may be away: events and recommendations continue with the last good model, after a
//!   restart too. When it is back, sync continues by itself.
//! - A user's state that cannot be read, or on which the core fails, costs that user the personal list and
//!   nobody else anything.
//! - A model is served only if a signed manifest named its hash; a refused one changes nothing.
//!
//! This crate is no load balancer and no cluster: a user's requests go to one edge.

#[path = "../guest/src/abi.rs"]
pub mod abi;
mod edge;
pub mod error;
pub mod host;
pub mod http;
mod metrics;
mod options;
pub mod sync;
pub mod users;

pub use edge::{Edge, MANIFEST_FILE, MODEL_FILE, StartError, USERS_FILE};
pub use http::app;
pub use metrics::Metrics;
pub use options::{Options, system_now_ms};
pub use sync::{Round, SyncError};
