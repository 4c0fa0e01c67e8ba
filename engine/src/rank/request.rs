//! What list a caller wants.

use crate::ids::Row;
use crate::model::blend::Scenario;
use serde::{Deserialize, Serialize};

/// What list a caller wants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Length of the list, up to [`crate::limits::COUNT_MAX`] (default 20).
    pub count: u32,
    /// What the list is for (default: discover, which leaves out what the history holds).
    pub scenario: Scenario,
    /// Only these rows, where given.
    pub allow: Option<Vec<Row>>,
    /// Not these rows.
    pub deny: Vec<Row>,
}

impl Default for Request {
    fn default() -> Self {
        Self { count: 20, scenario: Scenario::Discover, allow: None, deny: Vec::new() }
    }
}
