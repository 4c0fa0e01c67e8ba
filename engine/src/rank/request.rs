//! What list a caller wants.

use crate::ids::Row;
use crate::model::blend::Scenario;
use alloc::vec::Vec;
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
    /// How much the items of the list differ from one another, 0 (default: the best scores) to 1.
    pub diversity: f32,
    /// How much the list explores what the person's taste says little of, 0 (default) to 1.
    pub explore: f32,
    /// Seed of the exploration: the same one gives the same list.
    pub seed: u64,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            count: 20,
            scenario: Scenario::Discover,
            allow: None,
            deny: Vec::new(),
            diversity: 0.0,
            explore: 0.0,
            seed: 0,
        }
    }
}
