//! The exact top k: the best items of the whole catalogue, ties to the lower row.

use crate::ids::Row;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// An item of a list.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scored {
    /// The item's row.
    pub row: Row,
    /// Its score: larger is better; comparable within one list only.
    pub score: f32,
}

/// Keeps the k best of what is offered, sorted: an insertion list, since k is small and most
/// offers are worse than the last item.
#[derive(Clone, Debug, Default)]
pub struct TopK {
    count: usize,
    best: Vec<Scored>,
}

impl TopK {
    /// Returns an empty list for `count` items.
    pub fn new(count: usize) -> Self {
        Self { count, best: Vec::with_capacity(count + 1) }
    }

    /// Empties the list, for `count` items from now on.
    pub(crate) fn reset(&mut self, count: usize) {
        self.count = count;
        self.best.clear();
    }

    /// Returns how many items the list takes.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Returns the score below which nothing is taken any more.
    #[inline]
    pub(crate) fn threshold(&self) -> f32 {
        match self.best.last() {
            _ if self.count == 0 => f32::INFINITY,
            Some(last) if self.best.len() == self.count => last.score,
            _ => f32::NEG_INFINITY,
        }
    }

    /// Takes the item if it is among the best; of equal scores the lower row is ahead, in whatever
    /// order they are offered. No row may be offered twice.
    #[inline]
    pub fn offer(&mut self, row: Row, score: f32) {
        let ahead = |held: &Scored| held.score > score || (held.score == score && held.row < row);
        if self.best.len() == self.count {
            if self.best.last().is_none_or(ahead) {
                return;
            }
            self.best.pop();
        }
        let at = self.best.partition_point(ahead);
        self.best.insert(at, Scored { row, score });
    }

    /// Returns the list so far, best first.
    pub(crate) fn as_sorted(&self) -> &[Scored] {
        &self.best
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
            let (front, back) = scores.split_at(scores.len() / 2);
            let rows = (front.len()..scores.len()).chain(0..front.len());
            for (row, score) in rows.zip(back.iter().chain(front)) {
                top.offer(row as Row, f32::from(*score));
                all.push(Scored { row: row as Row, score: f32::from(*score) });
            }
            all.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.row.cmp(&b.row)));
            all.truncate(count);
            prop_assert_eq!(top.into_sorted(), all);
        }
    }
}
