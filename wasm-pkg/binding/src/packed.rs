//! Values that cross the boundary as one array of 32-bit numbers, of which JavaScript takes views.

use alloc::vec::Vec;
use nearfield_engine::Scored;

/// Returns a list: all rows, then the bits of all scores.
pub(crate) fn list(list: &[Scored]) -> Vec<u32> {
    let mut numbers = Vec::with_capacity(2 * list.len());
    list.iter().for_each(|item| numbers.push(item.row));
    list.iter().for_each(|item| numbers.push(item.score.to_bits()));
    numbers
}

/// Returns the low and the high half of a number.
pub(crate) fn halves(number: u64) -> [u32; 2] {
    [number as u32, (number >> 32) as u32]
}

/// Returns 16 bytes as 4 numbers, the bytes in their order in memory.
pub(crate) fn id(bytes: [u8; 16]) -> [u32; 4] {
    let quarters = bytes.as_chunks::<4>().0;
    [0, 1, 2, 3].map(|at| u32::from_le_bytes(quarters[at]))
}
