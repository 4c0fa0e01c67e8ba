//! The block in AVX2, eight rows at once.

use super::{Rows, STEP, User};
use crate::model::priors::BLOCK;
use std::arch::x86_64::*;

/// Rows that are summed at once: as many sums as hide the latency of one.
const AT_ONCE: usize = 8;

#[target_feature(enable = "avx2")]
pub(super) fn score_block(user: User<'_>, rows: Rows<'_>, threshold: f32, out: &mut [f32; BLOCK]) -> bool {
    super::score_by(|user, rows, out| dot_rows(user, rows, out), user, rows, threshold, out)
}

#[inline]
#[target_feature(enable = "avx2")]
fn dot_rows(user: &[i16], rows: &[i8], out: &mut [i32; BLOCK]) {
    let d = user.len().max(1);
    let (steps, tail) = user.as_chunks::<STEP>();
    let mut groups = rows.chunks_exact(AT_ONCE * d);
    let mut outs = out.as_chunks_mut::<AT_ONCE>().0.iter_mut();
    for (group, out) in groups.by_ref().zip(outs.by_ref()) {
        let mut sums = [_mm256_setzero_si256(); AT_ONCE];
        for (at, step) in steps.iter().enumerate() {
            let p = load_user(step);
            for (row, sum) in sums.iter_mut().enumerate() {
                let start = row * d + at * STEP;
                let q = _mm256_cvtepi8_epi16(load_row(&group[start..start + STEP]));
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(p, q));
            }
        }
        *out = add_across(sums);
        if !tail.is_empty() {
            for (row, out) in group.chunks_exact(d).zip(out) {
                *out += super::dot(tail, &row[d - tail.len()..]);
            }
        }
    }
    for (row, out) in groups.remainder().chunks_exact(d).zip(outs.flatten()) {
        *out = super::dot(user, row);
    }
}

/// Returns the sum of the lanes of each.
#[inline]
#[target_feature(enable = "avx2")]
fn add_across(sums: [__m256i; AT_ONCE]) -> [i32; AT_ONCE] {
    let four = |at: usize| {
        _mm256_hadd_epi32(
            _mm256_hadd_epi32(sums[at], sums[at + 1]),
            _mm256_hadd_epi32(sums[at + 2], sums[at + 3]),
        )
    };
    let (first, second) = (four(0), four(4));
    let low = _mm256_permute2x128_si256::<0x20>(first, second);
    let high = _mm256_permute2x128_si256::<0x31>(first, second);
    let mut out = [0; AT_ONCE];
    #[expect(unsafe_code, reason = "a store of a vector")]
    // SAFETY: `out` has the 32 bytes that are written.
    unsafe {
        _mm256_storeu_si256(out.as_mut_ptr().cast(), _mm256_add_epi32(low, high));
    }
    out
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_user(step: &[i16; STEP]) -> __m256i {
    #[expect(unsafe_code, reason = "a load of a vector")]
    // SAFETY: `step` has the 32 bytes that are read.
    unsafe {
        _mm256_loadu_si256(step.as_ptr().cast())
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_row(row: &[i8]) -> __m128i {
    let row: &[i8; STEP] = row.try_into().expect("a step of a row");
    #[expect(unsafe_code, reason = "a load of a vector")]
    // SAFETY: `row` has the 16 bytes that are read.
    unsafe {
        _mm_loadu_si128(row.as_ptr().cast())
    }
}
