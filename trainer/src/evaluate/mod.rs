//! How good recommendations are, by the product's own path: devices learn, deltas flow, central
//! publishes. One file for each protocol: `stream`, `leave_one_out`, `holdout_users`.
//!
//! `baselines` holds the methods that the product is measured against, `compare` runs them beside it
//! on a stream.

pub mod baselines;
pub mod compare;
pub mod figures;
pub mod holdout_users;
pub mod leave_one_out;
pub mod outcomes;
pub mod stream;
