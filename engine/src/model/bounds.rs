//! What is known of a block of rows without reading them: the bounds on which exact pruning rests. They are derived
//! when a model is loaded and whenever rows of the block change.

use crate::limits::DIM_MAX;
use alloc::vec::Vec;
use nearfield_kernels::BLOCK;
use nearfield_kernels::factors::{Step, add_squares};
#[cfg(target_arch = "wasm32")]
use nearfield_kernels::float::Float as _;

/// Relative margin by which bounds are raised, so that no rounding (a few units of 2⁻²⁴) brings one below a score.
pub(crate) const MARGIN: f32 = 1e-5;

pub(crate) use nearfield_kernels::STOPS;

// A squared norm of int8 numbers must fit the `i32` that it is summed in.
const _: () = assert!(DIM_MAX * 127 * 127 <= i32::MAX as usize);

/// The bounds of all blocks.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Bounds {
    /// At least the norm |q_i| of each row of a block. They stand by themselves, since most blocks are skipped by them.
    pub(crate) norms: Vec<f32>,
    /// What decides whether a block that is read is left off.
    pub(crate) parts: Vec<PartBounds>,
}

/// The bounds of parts of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct PartBounds {
    /// At least the norm of what is left of each row after each of [`STOPS`].
    pub(crate) tails: [f32; STOPS.len()],
    /// One over the largest scale, infinite where all are 0.
    pub(crate) one_over_scale: f32,
}

impl Bounds {
    /// Makes room for so many blocks.
    pub(crate) fn resize(&mut self, blocks: usize) {
        self.norms.resize(blocks, 0.0);
        self.parts.resize(blocks, PartBounds::default());
    }

    /// Derives the bounds of a block from its rows and their scales.
    pub(crate) fn derive(&mut self, block: usize, rows: &[Step], scales: &[f32]) {
        (self.norms[block], self.parts[block]) = bounds_of(rows, scales);
    }
}

/// Returns the norm and the other bounds of a block.
fn bounds_of(block: &[Step], scales: &[f32]) -> (f32, PartBounds) {
    // Of each row, the square of the norm up to each stop, then of the whole row.
    let mut squares = [0; BLOCK];
    let mut done = 0;
    let heads = STOPS.map(|stop| {
        let stop = stop.min(block.len());
        add_squares(&mut squares, &block[done..stop]);
        done = stop;
        squares
    });
    add_squares(&mut squares, &block[done..]);
    let norm = |square: i32, scale: f32| f32::sqrt(square as f32) * scale * (1.0 + MARGIN);
    let largest = |head: &[i32; BLOCK]| {
        let rows = squares.iter().zip(head).zip(scales);
        rows.fold(0.0, |largest, ((square, head), scale)| norm(square - head, *scale).max(largest))
    };
    let tails = heads.map(|head| largest(&head));
    let one_over_scale = 1.0 / scales.iter().copied().fold(0.0, f32::max);
    (largest(&[0; BLOCK]), PartBounds { tails, one_over_scale })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearfield_kernels::factors::steps_of;

    #[test]
    fn tails_are_what_the_rows_have_after_the_stops() {
        let numbers = |row: i8| (0..40).map(|at| if at < 8 { 100 } else { row * (at / 8) }).collect();
        let steps = steps_of(40, &[0, 1, 2].map(numbers));
        let (norm, bounds) = bounds_of(&steps, &[2.0, 1.0, 0.5]);
        // Row 0 is longest at its head, 8 numbers of 200; row 1 has 8 numbers each of 1, 2, 3, 4 behind it, and row
        // 2, at half the scale, the same.
        let square = |numbers: &[f32]| numbers.iter().map(|number| 8.0 * number * number).sum::<f32>();
        let expected = [square(&[1.0, 2.0, 3.0, 4.0]), square(&[2.0, 3.0, 4.0]), square(&[4.0])];
        let found = bounds.tails.into_iter().chain([norm]);
        for (found, expected) in found.zip(expected.into_iter().chain([square(&[200.0])])) {
            let above = found / expected.sqrt() - 1.0;
            assert!((0.0..2.0 * MARGIN).contains(&above), "{found} for {}", expected.sqrt());
        }
        assert_eq!(bounds.one_over_scale, 0.5);
    }
}
