//! The items' ids by row, and their rows by key.

use crate::ids::{ItemKey, Row};
use alloc::string::String;
use alloc::vec::Vec;

/// Ids in the order of their rows, one after the other in one text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Catalogue {
    text: String,
    /// Where each id ends.
    ends: Vec<u32>,
    index: Index,
}

impl PartialEq for Catalogue {
    /// The index follows from the ids, and how much room it has says nothing.
    fn eq(&self, other: &Self) -> bool {
        (&self.text, &self.ends) == (&other.text, &other.ends)
    }
}

impl Catalogue {
    /// Returns an empty catalogue with room for so many items and so many bytes of ids.
    pub(crate) fn with_room(items: usize, bytes: usize) -> Self {
        let text = String::with_capacity(bytes);
        Self { text, ends: Vec::with_capacity(items), index: Index::with_room(items) }
    }

    /// Returns the number of items.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Gives an item the next row; returns whether its key is new.
    pub(crate) fn push(&mut self, id: &str) -> bool {
        let row = self.len();
        self.text.push_str(id);
        self.ends.push(self.text.len() as u32);
        if self.index.is_full(row) {
            self.index = Index::with_room(self.len() + self.len() / 4);
            (0..row as Row).for_each(|row| self.index.insert(ItemKey::of(self.id(row)), row));
        }
        let key = ItemKey::of(id);
        let is_new = self.row(key).is_none();
        self.index.insert(key, row as Row);
        is_new
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
        self.index.candidates(key).find(|row| ItemKey::of(self.id(*row)) == key)
    }
}

// The ends of 2²⁴ ids of 128 bytes must fit the `u32` that they are kept in.
const _: () =
    assert!(crate::limits::ROWS_MAX as u64 * crate::limits::ITEM_ID_BYTES_MAX as u64 <= u32::MAX as u64);

/// Rows by key, in a table with open addressing and linear probing: eight bytes a slot, the low 40 bits of the key
/// above the row. A key is a hash already, and the place of a slot says most of its other bits.
#[derive(Clone, Debug, Default)]
struct Index {
    slots: Vec<u64>,
}

const EMPTY: u64 = u64::MAX;
/// Bits of a row in a slot.
const ROW_BITS: u32 = 24;
/// No row is larger, so that no slot in use is [`EMPTY`].
const _: () = assert!(crate::limits::ROWS_MAX <= 1 << ROW_BITS);

impl Index {
    /// Returns an empty index for so many rows; an eighth of the slots stays free.
    fn with_room(rows: usize) -> Self {
        Self { slots: alloc::vec![EMPTY; rows + rows / 7 + 1] }
    }

    /// Returns whether another row would fill too much of it.
    fn is_full(&self, rows: usize) -> bool {
        (rows + 1) * 8 > self.slots.len() * 7
    }

    /// Inserts a row; there is room for it.
    fn insert(&mut self, key: ItemKey, row: Row) {
        let mut at = self.start(key);
        while self.slots[at] != EMPTY {
            at = self.next(at);
        }
        self.slots[at] = key.0 << ROW_BITS | u64::from(row);
    }

    /// Returns the rows whose keys have the same low bits as this one: rarely more than the row itself.
    fn candidates(&self, key: ItemKey) -> impl Iterator<Item = Row> + '_ {
        let mut at = self.start(key);
        let probed = core::iter::from_fn(move || {
            let slot = self.slots.get(at).copied().filter(|slot| *slot != EMPTY)?;
            at = self.next(at);
            Some(slot)
        });
        let wanted = key.0 << ROW_BITS >> ROW_BITS;
        probed
            .filter(move |slot| slot >> ROW_BITS == wanted)
            .map(|slot| (slot & ((1 << ROW_BITS) - 1)) as Row)
    }

    /// Returns where a key's slot is looked for first, by its high half.
    fn start(&self, key: ItemKey) -> usize {
        (((key.0 >> 32) * self.slots.len() as u64) >> 32) as usize
    }

    fn next(&self, at: usize) -> usize {
        if at + 1 == self.slots.len() { 0 } else { at + 1 }
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

    #[test]
    fn every_item_is_found_however_the_index_has_grown() {
        for room in [0, 1, 500, 5000] {
            let mut catalogue = Catalogue::with_room(room, 0);
            assert_eq!(catalogue.row(ItemKey::of("item-0")), None);
            for item in 0..3000 {
                assert!(catalogue.push(&alloc::format!("item-{item}")));
            }
            for item in 0..3000 {
                assert_eq!(catalogue.row(ItemKey::of(&alloc::format!("item-{item}"))), Some(item));
                assert_eq!(catalogue.row(ItemKey::of(&alloc::format!("other-{item}"))), None);
            }
        }
    }
}
