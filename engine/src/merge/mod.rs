//! From deltas to the next version, and whether quality drifts.
//!
//! ```text
//! Delta → admission (bounds) → window (integer sums) → publish (statistics → rows) → patch
//! ```

pub mod admission;
pub mod drift;
pub mod publish;
pub mod statistics;
pub mod window;

pub use admission::Policy;
pub use publish::Publication;
pub use statistics::{Pair, Readings, Statistics, TrainedRow, TrainedSums};
pub use window::Window;
