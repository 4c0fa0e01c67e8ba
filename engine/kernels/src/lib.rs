//! The inner loops of Nearfield: what a list spends its time in, apart from what it is for.
//!
//! Nothing here knows a person or a model; all of it works on numbers that lie side by side. In the npm package's
//! module this crate is optimised for speed and every other one for size (`[profile.wasm]`), so a function belongs
//! here only where a profile shows it. Functions that are called from outside are kept out of line on wasm32: a loop
//! that is moved into code for size becomes code for size.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

pub mod algebra;
pub mod by_row;
pub mod factors;
pub mod float;
pub mod hash;
pub mod kernel;
pub mod lanes;

/// Rows that ranking reads or skips together.
pub const BLOCK: usize = 32;

/// Most rows of a catalogue.
pub const ROWS_MAX: usize = 1 << 24;

/// Largest d, the number of factors: 512 products of 15 and 7 bits fit an `i32`.
pub const DIM_MAX: usize = 512;

/// Pairs of dimensions after which a block may be left off. A training puts first the dimensions that say most.
pub const STOPS: [usize; 3] = [4, 8, 16];
