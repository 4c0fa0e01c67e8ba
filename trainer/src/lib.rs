//! All of Nearfield that runs offline: training a model from recorded events, and measuring how good
//! its recommendations are.
//!
//! It is not part of any service: central and edge never depend on it. What it learns it hands over
//! as two files, the public pack and the private statistics that central continues from.
//!
//! ```text
//! train     EventLog → hyperparameters on held-out events → factors, counts, blend → pack, statistics
//! evaluate  EventLog → replay through the product's own path → figures, beside baselines
//! ```

pub mod evaluate;
pub mod event_log;
pub mod features;
mod numpy;
pub mod progress;
pub mod recorded;
pub mod replay;
pub mod train;
