//! The block in WebAssembly's simd128: eight sums of four rows each.

use super::{Dots, LeftOff, Limits, Pair, parts};
use crate::BLOCK;
use crate::factors::Step;
use core::arch::wasm32::*;

/// Rows in one register of sums.
const LANES: usize = 4;

#[inline(never)]
pub(super) fn dots(
    user: &[Pair],
    block: &[Step],
    _later: &[Step],
    limits: &Limits,
    out: &mut Dots,
) -> Result<(), LeftOff> {
    let mut sums = [i32x4_splat(0); BLOCK / LANES];
    for (part, limit) in parts(user.len(), limits) {
        for (u, step) in user[part.clone()].iter().zip(&block[part.clone()]) {
            let u = i32x4_splat(i32::from(u[0] as u16) | i32::from(u[1]) << 16);
            for (sum, q) in sums.iter_mut().zip(step.0.as_chunks::<{ 2 * LANES }>().0) {
                *sum = i32x4_add(*sum, i32x4_dot_i16x8(u, load(q)));
            }
        }
        let largest = sums.into_iter().reduce(|a, b| i32x4_max(a, b)).expect("a block has sums");
        if !v128_any_true(i32x4_ge(largest, i32x4_splat(limit))) {
            return Err(LeftOff { after: part.end });
        }
    }
    for (sum, out) in sums.iter().zip(out.as_chunks_mut::<LANES>().0) {
        store(*sum, out);
    }
    Ok(())
}

/// Returns eight bytes as eight numbers of 16 bits.
#[inline]
fn load(q: &[i8; 2 * LANES]) -> v128 {
    #[expect(unsafe_code, reason = "a load of a vector")]
    // SAFETY: `q` has the 8 bytes that are read.
    unsafe {
        i16x8_load_extend_i8x8(q.as_ptr())
    }
}

#[inline]
fn store(sum: v128, out: &mut [i32; LANES]) {
    #[expect(unsafe_code, reason = "a store of a vector")]
    // SAFETY: `out` has the 16 bytes that are written; a store here needs no alignment.
    unsafe {
        v128_store(out.as_mut_ptr().cast(), sum);
    }
}
