//! What is known of a block of rows without reading them: the bounds on which exact pruning rests. They are derived
//! when a model is loaded and whenever rows of the block change.

use crate::limits::DIM_MAX;
use crate::model::factors::{BLOCK, Step};

/// Relative margin by which bounds are raised, so that no rounding (a few units of 2⁻²⁴) brings one below a score.
pub(crate) const MARGIN: f32 = 1e-5;

// A squared norm of int8 numbers must fit the `i32` that it is summed in.
const _: () = assert!(DIM_MAX * 127 * 127 <= i32::MAX as usize);

/// The bounds of one block.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct BlockBounds {
    /// At least the norm |q_i| of each row.
    pub(crate) norm: f32,
    /// The largest scale.
    pub(crate) scale: f32,
}

impl BlockBounds {
    /// Returns the bounds of a block with the scales of its rows.
    pub(crate) fn of(block: &[Step], scales: &[f32]) -> Self {
        let mut squares = [0; BLOCK];
        for step in block {
            for (square, q) in squares.iter_mut().zip(step.0.as_chunks::<2>().0) {
                let [first, second] = q.map(i32::from);
                *square += first * first + second * second;
            }
        }
        let norm = |(square, scale): (&i32, &f32)| libm::sqrtf(*square as f32) * scale * (1.0 + MARGIN);
        Self {
            norm: squares.iter().zip(scales).map(norm).fold(0.0, f32::max),
            scale: scales.iter().copied().fold(0.0, f32::max),
        }
    }
}
