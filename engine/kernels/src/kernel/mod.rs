//! The inner loop of ranking: a block of int8 rows against a 16-bit user vector.
//!
//! ```text
//! dot_i = Σ_j u_j q_ij        integers, so the same in any order
//! ```
//!
//! Three forms of one algorithm: AVX2 where the processor has it, simd128 in WebAssembly, plain loops
//! elsewhere. Each walks through the steps of a block ([`crate::factors`]) and adds the product of the user's
//! pair with each row's pair in that row's own lane. The sums are exact, so all give the same bits.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg_attr(all(target_arch = "wasm32", target_feature = "simd128"), allow(dead_code))]
mod plain;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod simd128;

use crate::factors::Step;
use crate::{BLOCK, STOPS};
use alloc::vec::Vec;
use core::ops::Range;

/// Two numbers of the user vector.
pub type Pair = [i16; 2];

/// The dot products of a block's rows.
pub type Dots = [i32; BLOCK];

/// What the dot products must reach for a row to be wanted: what those of the first dimensions must after each of
/// [`STOPS`], then what the whole ones must.
pub type Limits = [i32; STOPS.len() + 1];

/// No limits: every row is wanted.
pub const ALL_ROWS: Limits = [i32::MIN; STOPS.len() + 1];

/// A block was left off, since no row of it reaches a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftOff {
    /// Steps of it that were read.
    pub after: usize,
}

/// What is done with the dot products of blocks, one after the other: it is compiled once for each form of the
/// kernel, so that nothing is called between the blocks.
pub trait Pass {
    /// Does it. `dots(user, block, later, limits, out)` writes the dot products of a block's rows to `out`, unless it
    /// leaves the block off. It may have the memory of `later`, which is read soon, brought near.
    fn run(self, dots: impl Fn(&[Pair], &[Step], &[Step], &Limits, &mut Dots) -> Result<(), LeftOff>);
}

/// Returns the parts of a block of so many steps, each with the limit at its end. A stop without a limit ends no part.
#[inline(always)]
fn parts(steps: usize, limits: &Limits) -> impl Iterator<Item = (Range<usize>, i32)> {
    let mut start = 0;
    limits.iter().enumerate().filter_map(move |(at, limit)| {
        let end = STOPS.get(at).map_or(steps, |stop| steps.min(*stop));
        let ends = at == STOPS.len() || *limit != i32::MIN;
        ends.then(|| (core::mem::replace(&mut start, end)..end, *limit))
    })
}

/// Runs a pass with the best form that the host has.
#[inline]
pub fn run(pass: impl Pass) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        #[expect(unsafe_code, reason = "a call into code for a processor that was just found")]
        // SAFETY: the processor has AVX2.
        return unsafe { avx2::run(pass) };
    }
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    return pass.run(simd128::dots);
    #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
    pass.run(plain::dots)
}

/// Notes of each block whether its bound, `norm` times its own and its prior, reaches the threshold.
#[cfg_attr(target_arch = "wasm32", inline(never))]
#[cfg_attr(not(target_arch = "wasm32"), inline(always))]
pub fn may_win(
    norm: f32,
    norms: &[f32],
    priors: &[f32],
    threshold: f32,
    may_win: &mut [bool; BLOCKS_AT_ONCE],
) {
    for ((may_win, own), prior) in may_win.iter_mut().zip(norms).zip(priors) {
        *may_win = norm * own + prior >= threshold;
    }
}

/// Blocks whose bounds are tested at once, in vectors.
pub const BLOCKS_AT_ONCE: usize = 32;

/// Returns which dot products reach a limit, as bits.
#[cfg_attr(target_arch = "wasm32", inline(never))]
#[cfg_attr(not(target_arch = "wasm32"), inline(always))]
pub fn reaching(dots: &Dots, limit: i32) -> u32 {
    dots.iter().enumerate().fold(0, |bits, (at, dot)| bits | u32::from(*dot >= limit) << at)
}

/// Returns the dot product of numbers of the user vector with those of one row.
#[inline]
pub fn dot<'a>(pairs: impl Iterator<Item = (&'a Pair, [i8; 2])>) -> i32 {
    pairs.map(|(u, q)| i32::from(u[0]) * i32::from(q[0]) + i32::from(u[1]) * i32::from(q[1])).sum()
}

/// Returns a user vector in pairs, an odd one with a zero at its end.
pub fn pairs(vector: impl IntoIterator<Item = i16>) -> Vec<Pair> {
    let mut numbers = vector.into_iter();
    core::iter::from_fn(|| Some([numbers.next()?, numbers.next().unwrap_or(0)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::factors::{Factors, steps_of};
    use proptest::prelude::*;

    /// Notes what the kernel says of every block.
    struct Note<'a> {
        user: &'a [Pair],
        factors: Factors<'a>,
        limits: Limits,
        found: &'a mut Vec<Result<Dots, LeftOff>>,
    }

    impl Pass for Note<'_> {
        fn run(self, dots: impl Fn(&[Pair], &[Step], &[Step], &Limits, &mut Dots) -> Result<(), LeftOff>) {
            for block in self.factors.blocks() {
                let mut out = [0; BLOCK];
                self.found.push(dots(self.user, block, block, &self.limits, &mut out).map(|()| out));
            }
        }
    }

    proptest! {
        #[test]
        fn every_form_gives_the_dot_products_or_leaves_off_where_no_row_reaches_a_limit(
            dim in 1usize..140,
            rows in 0usize..100,
            seed in any::<u64>(),
            limits in prop::array::uniform4(prop_oneof![Just(i32::MIN), -1_000_000i32..1_000_000]),
        ) {
            let mut state = seed;
            let mut random = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 40) as i32
            };
            let user = pairs((0..dim).map(|_| random() as i16));
            let mut numbers = || (0..dim).map(|_| (random() as i8).max(-127)).collect();
            let steps = steps_of(dim, &(0..rows).map(|_| numbers()).collect::<Vec<_>>());
            let factors = Factors::new(dim, rows, &steps);
            let (mut fast, mut slow) = (Vec::new(), Vec::new());
            run(Note { user: &user, factors, limits, found: &mut fast });
            Note { user: &user, factors, limits, found: &mut slow }.run(plain::dots);
            prop_assert_eq!(&fast, &slow);
            for (block, found) in slow.iter().enumerate() {
                let up_to = |steps: usize| -> Dots {
                    core::array::from_fn(|at| match block * BLOCK + at {
                        row if row < rows => dot(user.iter().zip(factors.pairs_of(row as u32)).take(steps)),
                        _ => 0,
                    })
                };
                let stops = STOPS.iter().map(|stop| user.len().min(*stop)).chain([user.len()]);
                let below = |(end, limit): &(usize, i32)| up_to(*end).iter().all(|dot| dot < limit);
                let expected = match stops.zip(limits).find(below) {
                    Some((after, _)) => Err(LeftOff { after }),
                    None => Ok(up_to(user.len())),
                };
                prop_assert_eq!(*found, expected);
            }
        }
    }

    #[test]
    fn the_largest_numbers_do_not_wrap() {
        let dim = crate::DIM_MAX;
        let user = pairs(core::iter::repeat_n(i16::MIN + 1, dim));
        let steps = steps_of(dim, &[vec![-127; dim]]);
        let factors = Factors::new(dim, 1, &steps);
        let mut found = Vec::new();
        run(Note { user: &user, factors, limits: ALL_ROWS, found: &mut found });
        assert_eq!(found[0].unwrap()[0], 32767 * 127 * dim as i32);
    }
}
