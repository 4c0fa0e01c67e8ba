//! The log: admitted deltas, catalogue changes and publish marks, in one durable sequence.

pub mod entry;
pub mod redb;
