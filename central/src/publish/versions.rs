//! Which versions are kept.

use nearfield_engine::ModelVersion;

/// Returns the oldest of `count` versions that end with `newest`.
pub fn oldest_kept(newest: ModelVersion, count: u64) -> ModelVersion {
    ModelVersion((newest.0 + 1).saturating_sub(count))
}
