//! The items' ids by row, and their rows by key.

use crate::ids::{ItemKey, Row, short_hash};
use crate::limits::ITEM_ID_BYTES_MAX;
use alloc::vec::Vec;
use core::str;

/// Where the ids stand in their section of the pack, each with its length before it, and which row a key has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Catalogue {
    /// Where each id ends.
    ends: Vec<u32>,
    index: Index,
}

impl PartialEq for Catalogue {
    /// The index follows from the ids, and how much room it has says nothing.
    fn eq(&self, other: &Self) -> bool {
        self.ends == other.ends
    }
}

impl Catalogue {
    /// Returns an empty catalogue with room for so many items.
    pub(crate) fn with_room(items: usize) -> Self {
        Self { ends: Vec::with_capacity(items), index: Index::with_room(items) }
    }

    /// Gives the item whose id comes next in `ids` the next row; returns whether it is one, and its key is new.
    pub(crate) fn read_next(&mut self, ids: &[u8]) -> bool {
        let start = self.ends.last().map_or(0, |end| *end as usize);
        let Some((length, rest)) = ids.get(start..).and_then(|rest| rest.split_first()) else { return false };
        let length = usize::from(*length);
        let id = rest.get(..length).filter(|id| (1..=ITEM_ID_BYTES_MAX).contains(&id.len()));
        let Some(id) = id.filter(|id| str::from_utf8(id).is_ok()) else { return false };
        let row = self.ends.len();
        if self.index.is_full(row) {
            self.index = Index::with_room(row + row / 4 + 1);
            (0..row as Row).for_each(|row| self.index.insert(self.key(ids, row), row));
        }
        let key = ItemKey(short_hash(id));
        let is_new = self.row(ids, key).is_none();
        self.ends.push((start + 1 + length) as u32);
        self.index.insert(key, row as Row);
        is_new
    }

    /// Returns where the ids end that have been read.
    pub(crate) fn end(&self) -> usize {
        self.ends.last().map_or(0, |end| *end as usize)
    }

    /// Returns the id of a row.
    pub(crate) fn id<'a>(&self, ids: &'a [u8], row: Row) -> &'a str {
        str::from_utf8(self.bytes(ids, row)).unwrap_or_default()
    }

    /// Returns the row of an item.
    pub(crate) fn row(&self, ids: &[u8], key: ItemKey) -> Option<Row> {
        self.index.candidates(key).find(|row| self.key(ids, *row) == key)
    }

    fn key(&self, ids: &[u8], row: Row) -> ItemKey {
        ItemKey(short_hash(self.bytes(ids, row)))
    }

    fn bytes<'a>(&self, ids: &'a [u8], row: Row) -> &'a [u8] {
        let row = row as usize;
        let start = if row == 0 { 0 } else { self.ends[row - 1] as usize };
        &ids[start + 1..self.ends[row] as usize]
    }
}

// The ends of 2²⁴ ids of 128 bytes, each with its length, must fit the `u32` that they are kept in.
const _: () = assert!(crate::limits::ROWS_MAX as u64 * (ITEM_ID_BYTES_MAX as u64 + 1) <= u32::MAX as u64);

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

    fn section<'a>(ids: impl Iterator<Item = &'a str>) -> Vec<u8> {
        ids.flat_map(|id| [&[id.len() as u8], id.as_bytes()].concat()).collect()
    }

    #[test]
    fn ids_and_rows_lead_to_each_other() {
        let ids = section(["tent", "rücksack", "tent", ""].into_iter());
        let mut catalogue = Catalogue::with_room(3);
        assert!(catalogue.read_next(&ids) && catalogue.read_next(&ids));
        assert_eq!([0, 1].map(|row| catalogue.id(&ids, row)), ["tent", "rücksack"]);
        assert_eq!(catalogue.row(&ids, ItemKey::of("rücksack")), Some(1));
        assert_eq!(catalogue.row(&ids, ItemKey::of("boot")), None);
        assert!(!catalogue.read_next(&ids), "its key is known");
        assert!(!catalogue.read_next(&ids), "it is empty");
    }

    #[test]
    fn every_item_is_found_however_the_index_has_grown() {
        let names: Vec<_> = (0..3000).map(|item| alloc::format!("item-{item}")).collect();
        let ids = section(names.iter().map(|name| name.as_str()));
        for room in [0, 1, 500, 5000] {
            let mut catalogue = Catalogue::with_room(room);
            assert_eq!(catalogue.row(&ids, ItemKey::of("item-0")), None);
            assert!(names.iter().all(|_| catalogue.read_next(&ids)));
            assert_eq!(catalogue.end(), ids.len());
            for (row, name) in names.iter().enumerate() {
                assert_eq!(catalogue.row(&ids, ItemKey::of(name)), Some(row as Row));
                assert_eq!(catalogue.row(&ids, ItemKey::of(&alloc::format!("other-{row}"))), None);
            }
        }
    }
}
