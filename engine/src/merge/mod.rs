//! From deltas to the next version, and whether quality drifts.

pub mod drift;
pub mod statistics;

pub use statistics::{METRICS_MAX, Pair, Publication, Readings, Statistics, TrainedRow, TrainedSums, Window};
