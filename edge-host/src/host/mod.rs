//! The guests: the core in wasmtime, one instance a worker thread.

pub mod in_service;
pub mod pool;
pub mod sandbox;
mod strikes;
pub mod worker;
