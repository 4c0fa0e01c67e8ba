//! The users' states, kept.

pub mod redb;
