//! From deltas to the next version, and whether quality drifts.
//!
//! ```text
//! Delta → admission (bounds) → window → preview → publish (evidence by row → statistics → rows) → patch
//! ```

pub mod admission;
pub mod drift;
mod evidence;
mod parallel;
pub mod preview;
pub mod publish;
pub mod row_versions;
pub mod statistics;
pub mod waiting;
pub mod window;

pub use admission::Policy;
pub use preview::Preview;
pub use publish::Publication;
pub use row_versions::RowVersions;
pub use statistics::{Pair, Readings, Statistics, TrainedRow, TrainedSums};
pub use waiting::Threshold;
pub use window::Window;
