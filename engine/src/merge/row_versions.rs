//! At which version each row appeared and changed last: what a patch from any older version must carry.

use crate::ids::{ModelVersion, Row};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// The versions at which rows appeared and changed last.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RowVersions {
    /// By row, never falling: rows appear in their order.
    appeared: Vec<ModelVersion>,
    changed: Vec<ModelVersion>,
}

impl RowVersions {
    /// Notes that a version has `rows` rows and changes those of `changed`.
    pub(super) fn note(&mut self, version: ModelVersion, rows: usize, changed: &[Row]) {
        self.appeared.resize(rows, version);
        self.changed.resize(rows, version);
        changed.iter().for_each(|row| self.changed[*row as usize] = version);
    }

    /// Returns how many rows a version had.
    pub fn rows_at(&self, version: ModelVersion) -> usize {
        self.appeared.partition_point(|appeared| *appeared <= version)
    }

    /// Returns the rows that changed after a version, rising; those that it did not have are among them.
    pub fn changed_since(&self, version: ModelVersion) -> Vec<Row> {
        (0..).zip(&self.changed).filter(|(_, changed)| **changed > version).map(|(row, _)| row).collect()
    }
}
