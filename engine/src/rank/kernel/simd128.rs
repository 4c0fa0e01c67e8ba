//! The block in WebAssembly's simd128, four rows at once.

use super::STEP;
use crate::model::priors::BLOCK;
use std::arch::wasm32::*;

/// Rows that are summed at once.
const AT_ONCE: usize = 4;

#[inline]
pub(super) fn dot_rows(user: &[i16], rows: &[i8], out: &mut [i32; BLOCK]) {
    let d = user.len().max(1);
    let (steps, tail) = user.as_chunks::<STEP>();
    let mut groups = rows.chunks_exact(AT_ONCE * d);
    let mut outs = out.as_chunks_mut::<AT_ONCE>().0.iter_mut();
    for (group, out) in groups.by_ref().zip(outs.by_ref()) {
        let mut sums = [i32x4_splat(0); AT_ONCE];
        for (at, step) in steps.iter().enumerate() {
            let (low, high) = load_user(step);
            for (row, sum) in sums.iter_mut().enumerate() {
                let start = row * d + at * STEP;
                let q = load_row(&group[start..start + STEP]);
                let first = i32x4_dot_i16x8(low, i16x8_extend_low_i8x16(q));
                let second = i32x4_dot_i16x8(high, i16x8_extend_high_i8x16(q));
                *sum = i32x4_add(*sum, i32x4_add(first, second));
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
fn add_across([a, b, c, d]: [v128; AT_ONCE]) -> [i32; AT_ONCE] {
    let ab = i32x4_add(i32x4_shuffle::<0, 4, 1, 5>(a, b), i32x4_shuffle::<2, 6, 3, 7>(a, b));
    let cd = i32x4_add(i32x4_shuffle::<0, 4, 1, 5>(c, d), i32x4_shuffle::<2, 6, 3, 7>(c, d));
    let sums = i32x4_add(i32x4_shuffle::<0, 1, 4, 5>(ab, cd), i32x4_shuffle::<2, 3, 6, 7>(ab, cd));
    [
        i32x4_extract_lane::<0>(sums),
        i32x4_extract_lane::<1>(sums),
        i32x4_extract_lane::<2>(sums),
        i32x4_extract_lane::<3>(sums),
    ]
}

#[inline]
fn load_user(step: &[i16; STEP]) -> (v128, v128) {
    let start: *const v128 = step.as_ptr().cast();
    #[expect(unsafe_code, reason = "loads of vectors")]
    // SAFETY: `step` has the 32 bytes that are read; a load here needs no alignment.
    unsafe {
        (v128_load(start), v128_load(start.add(1)))
    }
}

#[inline]
fn load_row(row: &[i8]) -> v128 {
    let row: &[i8; STEP] = row.try_into().expect("a step of a row");
    #[expect(unsafe_code, reason = "a load of a vector")]
    // SAFETY: `row` has the 16 bytes that are read; a load here needs no alignment.
    unsafe {
        v128_load(row.as_ptr().cast())
    }
}
