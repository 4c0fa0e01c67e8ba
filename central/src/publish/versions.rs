//! Which versions are kept, and what changed between two of them.

use crate::log::entry::VersionRecord;
use nearfield_engine::{ModelVersion, Row};
use std::collections::HashSet;

/// Returns the oldest of `count` versions that end with `newest`.
pub fn oldest_kept(newest: ModelVersion, count: u64) -> ModelVersion {
    ModelVersion((newest.0 + 1).saturating_sub(count))
}

/// Returns the union of the rows that changed after `from`, for a patch.
pub fn changed_since<'a>(
    records: impl IntoIterator<Item = &'a VersionRecord>,
    from: ModelVersion,
) -> Vec<Row> {
    let rows: HashSet<Row> = records
        .into_iter()
        .filter(|record| record.version > from)
        .flat_map(|record| record.changed_rows.iter().copied())
        .collect();
    let mut rows: Vec<Row> = rows.into_iter().collect();
    rows.sort_unstable();
    rows
}
