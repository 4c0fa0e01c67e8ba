//! Statistics, open window and model: opened from the log, kept in step with it, and snapshotted.

pub mod replay;
pub mod snapshot;
pub mod state;
