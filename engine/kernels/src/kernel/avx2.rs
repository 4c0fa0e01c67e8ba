//! The block in AVX2: four sums of eight rows each.

use super::{Dots, LeftOff, Limits, Pair, Pass, parts};
use crate::BLOCK;
use crate::factors::Step;
use std::arch::x86_64::*;

/// Rows in one register of sums.
const LANES: usize = 8;

#[target_feature(enable = "avx2")]
pub(super) fn run(pass: impl Pass) {
    pass.run(|user, block, later, limits, out| dots(user, block, later, limits, out));
}

#[inline]
#[target_feature(enable = "avx2")]
fn dots(
    user: &[Pair],
    block: &[Step],
    later: &[Step],
    limits: &Limits,
    out: &mut Dots,
) -> Result<(), LeftOff> {
    let mut sums = [_mm256_setzero_si256(); BLOCK / LANES];
    for (part, limit) in parts(user.len(), limits) {
        for ((u, step), later) in
            user[part.clone()].iter().zip(&block[part.clone()]).zip(&later[part.clone()])
        {
            // What is read later is on its way while this is worked on.
            fetch(later);
            let u = _mm256_set1_epi32(i32::from(u[0] as u16) | i32::from(u[1]) << 16);
            for (sum, q) in sums.iter_mut().zip(step.0.as_chunks::<{ 2 * LANES }>().0) {
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(u, _mm256_cvtepi8_epi16(load(q))));
            }
        }
        let largest = sums.into_iter().reduce(|a, b| _mm256_max_epi32(a, b)).expect("a block has sums");
        let below = _mm256_cmpgt_epi32(_mm256_set1_epi32(limit), largest);
        if _mm256_movemask_epi8(below) == -1 {
            return Err(LeftOff { after: part.end });
        }
    }
    for (sum, out) in sums.iter().zip(out.as_chunks_mut::<LANES>().0) {
        store(*sum, out);
    }
    Ok(())
}

#[inline]
#[target_feature(enable = "avx2")]
fn fetch(step: &Step) {
    _mm_prefetch::<_MM_HINT_T0>(step.0.as_ptr());
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(q: &[i8; 2 * LANES]) -> __m128i {
    #[expect(unsafe_code, reason = "a load of a vector")]
    // SAFETY: `q` has the 16 bytes that are read.
    unsafe {
        _mm_loadu_si128(q.as_ptr().cast())
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(sum: __m256i, out: &mut [i32; LANES]) {
    #[expect(unsafe_code, reason = "a store of a vector")]
    // SAFETY: `out` has the 32 bytes that are written.
    unsafe {
        _mm256_storeu_si256(out.as_mut_ptr().cast(), sum);
    }
}
