//! A set of rows or of blocks.

use crate::ids::Row;
use alloc::vec::Vec;

/// A set of rows, as bits; emptying it takes time in proportion to its rows.
#[derive(Clone, Debug, Default)]
pub(crate) struct RowSet {
    bits: Vec<u64>,
    /// The rows of the set, in the order in which they came.
    rows: Vec<Row>,
    /// Only rows below this can be in the set.
    len: usize,
}

impl RowSet {
    /// Empties the set and makes room for rows below `len`.
    pub(crate) fn reset(&mut self, len: usize) {
        for row in self.rows.drain(..) {
            self.bits[row as usize / 64] = 0;
        }
        self.len = len;
        self.bits.resize(len.div_ceil(64), 0);
    }

    /// Adds a row and returns whether it is new; rows out of range are never new.
    #[inline]
    pub(crate) fn insert(&mut self, row: Row) -> bool {
        if row as usize >= self.len {
            return false;
        }
        let word = &mut self.bits[row as usize / 64];
        let bit = 1 << (row % 64);
        let new = *word & bit == 0;
        if new {
            *word |= bit;
            self.rows.push(row);
        }
        new
    }

    /// Returns whether the row is in the set.
    #[inline]
    pub(crate) fn contains(&self, row: Row) -> bool {
        self.bits.get(row as usize / 64).is_some_and(|word| word >> (row % 64) & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_set_takes_only_rows_of_the_catalogue_it_was_reset_to() {
        let mut set = RowSet::default();
        set.reset(200);
        assert!(set.insert(199) && !set.insert(199) && !set.insert(200));
        set.reset(5);
        assert!(
            !set.insert(5) && !set.insert(63) && !set.insert(199),
            "rows within the last word, and beyond"
        );
        assert!(set.insert(4) && set.contains(4) && !set.contains(5));
        set.reset(200);
        assert!((0..200).all(|row| !set.contains(row)));
    }
}
