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

use crate::BLOCK;

/// Bytes of a step.
pub const STEP: usize = 2 * BLOCK;

/// A pair of numbers of every row of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
pub struct Step(pub [i8; STEP]);

/// A step of zeros.
pub const ZEROS: Step = Step([0; STEP]);

/// Adds to each row's sum the squares of its numbers in some steps of its block.
#[cfg_attr(target_arch = "wasm32", inline(never))]
#[cfg_attr(not(target_arch = "wasm32"), inline)]
pub fn add_squares(sums: &mut [i32; BLOCK], steps: &[Step]) {
    for step in steps {
        for (sum, q) in sums.iter_mut().zip(step.0.as_chunks::<2>().0) {
            let [first, second] = q.map(i32::from);
            *sum += first * first + second * second;
        }
    }
}

/// Quantised rows of d numbers, -127 to 127.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Factors<'a> {
    dim: usize,
    rows: usize,
    steps: &'a [Step],
}

impl<'a> Factors<'a> {
    /// Returns the rows that stand in the steps.
    #[inline]
    pub fn new(dim: usize, rows: usize, steps: &'a [Step]) -> Self {
        Self { dim, rows, steps }
    }

    /// Returns the length of the bytes of so many rows.
    #[inline]
    pub fn byte_len(dim: usize, rows: usize) -> u64 {
        rows.div_ceil(BLOCK) as u64 * dim.div_ceil(2) as u64 * STEP as u64
    }

    /// Returns whether all that fills up the last block and an odd d is zero, as it must be in a file.
    pub fn filled_up_with_zeros(self) -> bool {
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
    pub fn count(self) -> usize {
        self.rows
    }

    /// Returns the steps of a block: the pairs of a row.
    #[inline]
    fn pairs(self) -> usize {
        self.dim.div_ceil(2)
    }

    /// Returns all steps as they lie in memory.
    pub fn steps(self) -> &'a [Step] {
        self.steps
    }

    /// Returns all blocks, in order.
    pub fn blocks(self) -> impl ExactSizeIterator<Item = &'a [Step]> {
        self.steps.chunks_exact(self.pairs().max(1))
    }

    /// Returns one block.
    #[inline]
    pub fn block(self, block: usize) -> &'a [Step] {
        &self.steps[block * self.pairs()..(block + 1) * self.pairs()]
    }

    /// Returns the pairs of a row.
    pub fn pairs_of(self, row: u32) -> impl Iterator<Item = [i8; 2]> + 'a {
        let (block, at) = (row as usize / BLOCK, row as usize % BLOCK);
        self.block(block).iter().map(move |step| step.0.as_chunks::<2>().0[at])
    }

    /// Returns the d numbers of a row.
    pub fn row(self, row: u32) -> impl Iterator<Item = i8> + 'a {
        self.pairs_of(row).flatten().take(self.dim)
    }

    /// Replaces, in steps that begin with the rows, a row by d numbers.
    pub fn set(dim: usize, steps: &mut [Step], row: u32, numbers: &[i8]) {
        let (block, at, pairs) = (row as usize / BLOCK, row as usize % BLOCK, dim.div_ceil(2));
        let steps = &mut steps[block * pairs..(block + 1) * pairs];
        for (step, pair) in steps.iter_mut().zip(numbers.chunks(2)) {
            step.0[2 * at] = pair[0];
            step.0[2 * at + 1] = pair.get(1).copied().unwrap_or(0);
        }
    }
}

/// Returns the steps of some rows.
pub fn steps_of(dim: usize, rows: &[alloc::vec::Vec<i8>]) -> alloc::vec::Vec<Step> {
    let mut steps = alloc::vec![ZEROS; Factors::byte_len(dim, rows.len()) as usize / STEP];
    rows.iter().enumerate().for_each(|(row, numbers)| Factors::set(dim, &mut steps, row as u32, numbers));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_come_back_as_they_were_set_and_the_bytes_have_one_form(
            dim in 1usize..12,
            rows in 0usize..100,
            seed in any::<u8>(),
        ) {
            let number = |row: usize, at: usize| (row * 31 + at * 17 + usize::from(seed)) as u8 as i8;
            let numbers = |row: usize| (0..dim).map(|at| number(row, at)).collect();
            let steps = steps_of(dim, &(0..rows).map(numbers).collect::<Vec<_>>());
            let factors = Factors::new(dim, rows, &steps);
            for row in 0..rows {
                let found: Vec<i8> = factors.row(row as u32).collect();
                prop_assert_eq!(found, (0..dim).map(|at| number(row, at)).collect::<Vec<_>>());
            }
            prop_assert!(factors.filled_up_with_zeros());
            for at in 0..steps.len() * STEP {
                let mut other = steps.clone();
                other[at / STEP].0[at % STEP] ^= 1;
                // A byte that belongs to no row must be zero.
                let (pair, within) = (at / STEP % dim.div_ceil(2), at % STEP);
                let row = at / STEP / dim.div_ceil(2) * BLOCK + within / 2;
                let of_a_row = row < rows && 2 * pair + within % 2 < dim;
                prop_assert_eq!(Factors::new(dim, rows, &other).filled_up_with_zeros(), of_a_row);
            }
        }
    }
}
