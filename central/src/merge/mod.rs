//! Statistics, open window and model, kept in step with the log.

pub mod state;
