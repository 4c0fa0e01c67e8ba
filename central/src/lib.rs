//! The central service of Nearfield: it takes deltas, loses none, merges them, and publishes signed
//! model versions.
//!
//! It is not a place for events or people: it never sees who did what, and the log holds deltas
//! only until the next snapshot. The modules follow a delta's path:
//!
//! ```text
//! http → ingest (token, queue, writer) → log (dedup; one durable transaction) → merge (window)
//!      ← publish (manifest, packs, patches) ← merge (statistics, model) at each publish
//! ```
//!
//! # Limits
//! One process with one embedded store. Sync bodies up to 64 KiB. The open window
//! and the rows that wait for more devices (k > 1) live in memory.

pub mod catalogue;
pub mod clock;
pub mod condition;
pub mod config;
pub mod durable;
pub mod http;
pub mod ingest;
pub mod keys;
pub mod log;
pub mod merge;
pub mod metrics;
pub mod publish;
pub mod seed;
pub mod service;

pub use config::Config;
pub use http::{admin_app, app, metrics_app};
pub use service::Service;
