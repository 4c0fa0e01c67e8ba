//! Numbers of rows in rising order of rows.

use crate::ROWS_MAX;
use alloc::vec::Vec;

/// Bits of a row that one pass sorts by.
const DIGIT: u32 = 8;

/// Passes that sort every row.
const PASSES: u32 = ROWS_MAX.trailing_zeros().div_ceil(DIGIT);

/// Sorts by row: first by its low eight bits, then by the next (radix sort, stable in each pass). Its time
/// is in proportion to the numbers, and it is a fraction of a comparing sort's code.
#[derive(Clone, Debug, Default)]
pub struct ByRow {
    /// For each digit where its next number goes.
    next: Vec<u32>,
    sorted: Vec<(u32, f32)>,
}

impl ByRow {
    /// Sorts numbers of rows.
    #[cfg_attr(target_arch = "wasm32", inline(never))]
    pub fn sort(&mut self, numbers: &mut Vec<(u32, f32)>) {
        let largest = numbers.iter().map(|(row, _)| *row).max().unwrap_or(0);
        for shift in (0..PASSES * DIGIT).step_by(DIGIT as usize).take_while(|shift| largest >> shift > 0) {
            let digit = |row: u32| (row >> shift) as usize & ((1 << DIGIT) - 1);
            self.next.resize(1 << DIGIT, 0);
            self.next.fill(0);
            for (row, _) in numbers.iter() {
                self.next[digit(*row)] += 1;
            }
            let mut start = 0;
            for next in &mut self.next {
                (*next, start) = (start, start + *next);
            }
            // All of them are written over.
            self.sorted.resize(numbers.len(), (0, 0.0));
            for number in numbers.iter() {
                let next = &mut self.next[digit(number.0)];
                self.sorted[*next as usize] = *number;
                *next += 1;
            }
            core::mem::swap(numbers, &mut self.sorted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_come_in_the_order_of_their_rows(
            mut numbers in prop::collection::vec((0..ROWS_MAX as u32, -9.0f32..9.0), 0..300),
        ) {
            let mut expected = numbers.clone();
            expected.sort_by_key(|(row, _)| *row);
            ByRow::default().sort(&mut numbers);
            prop_assert_eq!(numbers, expected);
        }
    }
}
