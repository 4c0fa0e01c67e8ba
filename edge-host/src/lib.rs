//! The edge host: Nearfield's core for many users, on a server of the site's own.
//!
//! The core runs as a WebAssembly guest in wasmtime, one instance a worker thread, bounded in memory
//! and time. It is a function: a user's record goes in and comes out. Around it stand a store for the records, an
//! HTTP interface, and a loop that syncs with central. The paths:
//!
//! ```text
//! out    http → user's turn → store: get → guest: learn, recommend → store: put if unchanged → 200
//! back   sync: store: who is due → guest: take delta → store → POST /v1/sync → guest: settle → store
//! model  sync: manifest → patch or pack → verify → model.pack on disk → every instance
//! ```
//!
//! # What holds
//! - Events answered with 200 are on disk. What was refused changed nothing.
//! - A delta is on disk before it is first sent, and leaves the outbox only on central's answer.
//! - Central may be away: events and recommendations continue with the last good model, after a
//!   restart too. When it is back, sync continues by itself.
//! - A list is always answered: where a user's own cannot be made it is the last one, else the popular one, else the
//!   one that came with the deployment.
//! - The store is the truth. Two hosts on one store lose no event of a user: a write that meets another one is done
//!   again on what that left.
//! - A user's state on which the core fails costs nobody else anything.
//! - A model is served only if a signed manifest named its hash; a refused one changes nothing.
//!
//! This crate is no load balancer: it serves who comes to it.

#[path = "../guest/src/abi.rs"]
pub mod abi;
pub mod auth;
mod edge;
pub mod error;
pub mod grpc;
pub mod host;
pub mod http;
pub mod listener;
mod metrics;
mod options;
pub mod redis;
pub mod service;
pub mod streams;
pub mod sync;
pub mod telemetry;
pub mod users;
pub mod watched;

pub use edge::{CORE_FOLDER, Edge, MANIFEST_FILE, MODEL_FILE, StartError, USERS_FILE};
pub use http::app;
pub use metrics::{METRICS, Metrics};
pub use options::{Options, UsersIn, system_now_ms};
pub use sync::{Round, SyncError};
