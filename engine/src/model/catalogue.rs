//! The items' ids by row, and their rows by key.

use crate::ids::{ItemKey, Row};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Ids in the order of their rows, one after the other in one text.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Catalogue {
    text: String,
    /// Where each id ends.
    ends: Vec<u32>,
    rows: HashMap<ItemKey, Row, BuildHasherDefault<KeyHasher>>,
}

impl Catalogue {
    /// Returns an empty catalogue with room for so many items and so many bytes of ids.
    pub(crate) fn with_room(items: usize, bytes: usize) -> Self {
        let mut rows = HashMap::default();
        rows.reserve(items);
        Self { text: String::with_capacity(bytes), ends: Vec::with_capacity(items), rows }
    }

    /// Returns the number of items.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Gives an item the next row; returns whether its key is new.
    pub(crate) fn push(&mut self, id: &str) -> bool {
        let row = self.len() as Row;
        self.text.push_str(id);
        self.ends.push(self.text.len() as u32);
        self.rows.insert(ItemKey::of(id), row).is_none()
    }

    /// Returns the id of a row.
    pub(crate) fn id(&self, row: Row) -> &str {
        let row = row as usize;
        let start = if row == 0 { 0 } else { self.ends[row - 1] as usize };
        &self.text[start..self.ends[row] as usize]
    }

    /// Returns all ids, by row.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &str> {
        (0..self.len() as Row).map(|row| self.id(row))
    }

    /// Returns the row of an item.
    pub(crate) fn row(&self, key: ItemKey) -> Option<Row> {
        self.rows.get(&key).copied()
    }
}

// The ends of 2²⁴ ids of 128 bytes must fit the `u32` that they are kept in.
const _: () =
    assert!(crate::limits::ROWS_MAX as u64 * crate::limits::ITEM_ID_BYTES_MAX as u64 <= u32::MAX as u64);

/// Takes a key as it is: it is a hash already.
#[derive(Clone, Copy, Debug, Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _bytes: &[u8]) {
        unreachable!("a key is one number");
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_rows_lead_to_each_other() {
        let mut catalogue = Catalogue::with_room(3, 20);
        for id in ["tent", "", "rücksack"] {
            assert!(catalogue.push(id));
        }
        assert!(!catalogue.push("tent"), "its key is known");
        assert_eq!(catalogue.ids().take(3).collect::<Vec<_>>(), ["tent", "", "rücksack"]);
        assert_eq!(catalogue.row(ItemKey::of("rücksack")), Some(2));
        assert_eq!(catalogue.row(ItemKey::of("boot")), None);
    }
}
