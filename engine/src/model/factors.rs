//! The quantised rows of the catalogue, laid out as ranking reads them.
//!
//! Rows lie in blocks of 32, and the numbers of a block's rows stand in pairs, one pair of every row after the
//! other:
//!
//! ```text
//! q₀[0] q₀[1]  q₁[0] q₁[1]  …  q₃₁[0] q₃₁[1]     one step: 64 bytes
//! q₀[2] q₀[3]  q₁[2] q₁[3]  …  q₃₁[2] q₃₁[3]     the next step
//! ```
//!
//! So one load takes a pair of several rows, one instruction multiplies it by the user's pair and adds, and each
//! row's sum stays in a lane of its own. The last block, and an odd d, are filled up with zeros.

use crate::ids::Row;
use crate::limits::BLOCK_ROWS;
use alloc::vec;
use alloc::vec::Vec;

/// Rows of a block: one bound is kept for each, and its rows are scored at once.
pub(crate) const BLOCK: usize = BLOCK_ROWS;

/// Bytes of a step.
const STEP: usize = 2 * BLOCK;

/// A pair of numbers of every row of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Step(pub [i8; STEP]);

/// Adds to each row's sum the squares of its numbers in some steps of its block.
#[inline]
pub(crate) fn add_squares(sums: &mut [i32; BLOCK], steps: &[Step]) {
    for step in steps {
        for (sum, q) in sums.iter_mut().zip(step.0.as_chunks::<2>().0) {
            let [first, second] = q.map(i32::from);
            *sum += first * first + second * second;
        }
    }
}

const ZEROS: Step = Step([0; STEP]);

/// Quantised rows of d numbers, -127 to 127.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Factors {
    dim: usize,
    rows: usize,
    steps: Vec<Step>,
}

impl Factors {
    /// Returns no rows yet, of `dim` numbers each.
    pub(crate) fn new(dim: usize) -> Self {
        Self { dim, rows: 0, steps: Vec::new() }
    }

    /// Reads rows as [`Factors::bytes`] writes them; `None` where the bytes are too few or too many, or what fills up
    /// is not zero.
    pub(crate) fn from_bytes(dim: usize, rows: usize, bytes: &[u8]) -> Option<Self> {
        if bytes.len() as u64 != Self::byte_len(dim, rows) {
            return None;
        }
        let mut steps = vec![ZEROS; bytes.len() / STEP];
        for (step, bytes) in steps.iter_mut().zip(bytes.as_chunks::<STEP>().0) {
            step.0.iter_mut().zip(bytes).for_each(|(number, byte)| *number = *byte as i8);
        }
        let factors = Self { dim, rows, steps };
        factors.filled_up_with_zeros().then_some(factors)
    }

    /// Returns the length of the bytes of so many rows.
    pub(crate) fn byte_len(dim: usize, rows: usize) -> u64 {
        rows.div_ceil(BLOCK) as u64 * dim.div_ceil(2) as u64 * STEP as u64
    }

    /// Returns all steps, block after block, as bytes.
    pub(crate) fn bytes(&self) -> impl Iterator<Item = u8> {
        self.steps.iter().flat_map(|step| step.0.map(|factor| factor as u8))
    }

    fn filled_up_with_zeros(&self) -> bool {
        let odd = self.dim % 2 == 1;
        let pairs = self.pairs().max(1);
        let last_pairs = self.steps.iter().skip(pairs - 1).step_by(pairs);
        let columns = !odd || last_pairs.flat_map(|step| step.0.as_chunks::<2>().0).all(|pair| pair[1] == 0);
        let first_free = self.rows % BLOCK;
        let rows = first_free == 0
            || self
                .block(self.rows / BLOCK)
                .iter()
                .all(|step| step.0[2 * first_free..].iter().all(|q| *q == 0));
        columns && rows
    }

    /// Returns the number of rows.
    pub(crate) fn len(&self) -> usize {
        self.rows
    }

    /// Returns the steps of a block: the pairs of a row.
    fn pairs(&self) -> usize {
        self.dim.div_ceil(2)
    }

    /// Returns all steps as they lie in memory.
    pub(crate) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Returns all blocks, in order.
    pub(crate) fn blocks(&self) -> impl ExactSizeIterator<Item = &[Step]> {
        self.steps.chunks_exact(self.pairs().max(1))
    }

    /// Returns one block.
    #[inline]
    pub(crate) fn block(&self, block: usize) -> &[Step] {
        &self.steps[block * self.pairs()..(block + 1) * self.pairs()]
    }

    /// Adds a row of zeros.
    pub(crate) fn push(&mut self) {
        self.rows += 1;
        self.steps.resize(self.rows.div_ceil(BLOCK) * self.pairs(), ZEROS);
    }

    /// Returns the pairs of a row.
    pub(crate) fn pairs_of(&self, row: Row) -> impl Iterator<Item = [i8; 2]> + '_ {
        let (block, at) = (row as usize / BLOCK, row as usize % BLOCK);
        self.block(block).iter().map(move |step| step.0.as_chunks::<2>().0[at])
    }

    /// Returns the d numbers of a row.
    pub(crate) fn row(&self, row: Row) -> impl Iterator<Item = i8> + '_ {
        self.pairs_of(row).flatten().take(self.dim)
    }

    /// Replaces a row by d numbers.
    pub(crate) fn set(&mut self, row: Row, numbers: &[i8]) {
        let (block, at, pairs) = (row as usize / BLOCK, row as usize % BLOCK, self.pairs());
        let steps = &mut self.steps[block * pairs..(block + 1) * pairs];
        for (step, pair) in steps.iter_mut().zip(numbers.chunks(2)) {
            step.0[2 * at] = pair[0];
            step.0[2 * at + 1] = pair.get(1).copied().unwrap_or(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_come_back_as_they_were_set_and_the_bytes_have_one_form(
            dim in 1usize..12,
            rows in 0usize..100,
            seed in any::<u8>(),
        ) {
            let number = |row: usize, at: usize| (row * 31 + at * 17 + usize::from(seed)) as u8 as i8;
            let mut factors = Factors::new(dim);
            for row in 0..rows {
                factors.push();
                let numbers: Vec<i8> = (0..dim).map(|at| number(row, at)).collect();
                factors.set(row as Row, &numbers);
            }
            for row in 0..rows {
                let found: Vec<i8> = factors.row(row as Row).collect();
                prop_assert_eq!(found, (0..dim).map(|at| number(row, at)).collect::<Vec<_>>());
            }
            let bytes: Vec<u8> = factors.bytes().collect();
            prop_assert_eq!(bytes.len() as u64, Factors::byte_len(dim, rows));
            let read = Factors::from_bytes(dim, rows, &bytes);
            prop_assert_eq!(read.as_ref(), Some(&factors));
            for at in 0..bytes.len() {
                let mut other = bytes.clone();
                other[at] ^= 1;
                // A byte that belongs to no row must be zero.
                let (pair, within) = (at / STEP % dim.div_ceil(2), at % STEP);
                let row = at / STEP / dim.div_ceil(2) * BLOCK + within / 2;
                let of_a_row = row < rows && 2 * pair + within % 2 < dim;
                prop_assert_eq!(Factors::from_bytes(dim, rows, &other).is_some(), of_a_row);
            }
        }
    }
}
