//! The exact top k: the best items of the whole catalogue, ties to the lower row.

use crate::hyper::Scenario;
use crate::ids::Row;
use serde::{Deserialize, Serialize};

/// Most items of one list.
pub const COUNT_MAX: u32 = 1000;

/// What list a caller wants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Length of the list, up to 1000 (default 20).
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

/// An item of a list.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scored {
    /// The item's row.
    pub row: Row,
    /// Its score: larger is better; comparable within one list only.
    pub score: f32,
}

/// Keeps the k best of what is offered, in order: an insertion list, since k is small and most
/// offers lose to the last place at once.
#[derive(Clone, Debug)]
pub struct TopK {
    count: usize,
    best: Vec<Scored>,
}

impl TopK {
    /// Returns an empty list for `count` items.
    pub fn new(count: usize) -> Self {
        Self { count, best: Vec::with_capacity(count + 1) }
    }

    /// Takes the item if it is among the best. Rows must be offered in rising order, so that of
    /// equal scores the lower row stays ahead.
    #[inline]
    pub fn offer(&mut self, row: Row, score: f32) {
        if self.best.len() == self.count && self.best.last().is_none_or(|last| score <= last.score) {
            return;
        }
        let place = self.best.partition_point(|held| held.score >= score);
        self.best.insert(place, Scored { row, score });
        self.best.truncate(self.count);
    }

    /// Returns the list, best first.
    pub fn into_sorted(self) -> Vec<Scored> {
        self.best
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn top_k_is_what_a_full_sort_gives(scores in prop::collection::vec(0u8..20, 0..200), count in 0usize..30) {
            let mut top = TopK::new(count);
            let mut all = Vec::new();
            for (row, score) in scores.iter().enumerate() {
                top.offer(row as Row, f32::from(*score));
                all.push(Scored { row: row as Row, score: f32::from(*score) });
            }
            all.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.row.cmp(&b.row)));
            all.truncate(count);
            prop_assert_eq!(top.into_sorted(), all);
        }
    }
}
