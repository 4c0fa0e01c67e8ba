//! The inner loop of ranking: a block of int8 rows against a 16-bit user vector.
//!
//! ```text
//! dot_i   = Σ_j u_j q_ij                                    integers, so the same in any order
//! score_i = dot_i · (dot_scale · scale_i) + prior_i         one multiplication, one addition
//! ```
//!
//! Three forms of one algorithm: AVX2 where the processor has it, simd128 in WebAssembly, plain loops
//! elsewhere. The dot product is exact and the rest is elementwise, so all give the same bits.

/// Rows of a block: what one bound is kept for, and what is scored at once.
pub(crate) const BLOCK: usize = 32;

/// The person's side of a block's scores.
#[derive(Clone, Copy, Debug)]
pub(crate) struct User<'a> {
    /// u at 16 bits, d.
    pub(crate) vector: &'a [i16],
    /// Turns a dot product, times the row's scale, into u·q.
    pub(crate) dot_scale: f32,
}

/// A block's side: up to [`BLOCK`] rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows<'a> {
    /// Rows of d numbers, one after the other.
    pub(crate) factors: &'a [i8],
    /// Scale of each row.
    pub(crate) scales: &'a [f32],
    /// Static prior of each row.
    pub(crate) priors: &'a [f32],
}

/// Writes the score of each row and returns whether any is at least `threshold`.
#[inline]
pub(crate) fn score_block(user: User<'_>, rows: Rows<'_>, threshold: f32, out: &mut [f32; BLOCK]) -> bool {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        #[expect(unsafe_code, reason = "a call into code for a processor that was just found")]
        // SAFETY: the processor has AVX2.
        return unsafe { avx2::score_block(user, rows, threshold, out) };
    }
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    return score_by(simd128::dot_rows, user, rows, threshold, out);
    #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
    score_by(plain::dot_rows, user, rows, threshold, out)
}

/// Returns the dot product of the user vector with one row.
#[inline]
pub(crate) fn dot(user: &[i16], row: &[i8]) -> i32 {
    user.iter().zip(row).map(|(p, q)| i32::from(*p) * i32::from(i16::from(*q))).sum()
}

/// The elementwise rest, the same text for every form.
#[inline(always)]
fn score_by(
    dot_rows: impl Fn(&[i16], &[i8], &mut [i32; BLOCK]),
    user: User<'_>,
    rows: Rows<'_>,
    threshold: f32,
    out: &mut [f32; BLOCK],
) -> bool {
    let mut dots = [0; BLOCK];
    dot_rows(user.vector, rows.factors, &mut dots);
    if let (Some((scales, _)), Some((priors, _))) =
        (rows.scales.split_first_chunk::<BLOCK>(), rows.priors.split_first_chunk::<BLOCK>())
    {
        let mut best = [f32::NEG_INFINITY; 8];
        for at in 0..BLOCK {
            out[at] = dots[at] as f32 * (user.dot_scale * scales[at]) + priors[at];
            best[at % 8] = if out[at] > best[at % 8] { out[at] } else { best[at % 8] };
        }
        return best.iter().any(|best| *best >= threshold);
    }
    let mut any = false;
    for (at, (scale, prior)) in rows.scales.iter().zip(rows.priors).enumerate() {
        out[at] = dots[at] as f32 * (user.dot_scale * scale) + prior;
        any |= out[at] >= threshold;
    }
    any
}

/// Numbers that one step of a vector form takes from a row.
#[cfg(any(target_arch = "x86_64", all(target_arch = "wasm32", target_feature = "simd128")))]
const STEP: usize = 16;

#[cfg_attr(all(target_arch = "wasm32", target_feature = "simd128"), allow(dead_code))]
mod plain {
    use super::BLOCK;

    #[inline]
    pub(super) fn dot_rows(user: &[i16], rows: &[i8], out: &mut [i32; BLOCK]) {
        for (out, row) in out.iter_mut().zip(rows.chunks_exact(user.len().max(1))) {
            *out = super::dot(user, row);
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::{BLOCK, Rows, STEP, User};
    use std::arch::x86_64::*;

    /// Rows that are summed at once: as many sums as hide the latency of one.
    const AT_ONCE: usize = 8;

    #[target_feature(enable = "avx2")]
    pub(super) fn score_block(
        user: User<'_>,
        rows: Rows<'_>,
        threshold: f32,
        out: &mut [f32; BLOCK],
    ) -> bool {
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
}

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod simd128 {
    use super::{BLOCK, STEP};
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_form_gives_the_same_scores(
            d in 1usize..100,
            count in 0..=BLOCK,
            seed in any::<u64>(),
            threshold in -1.0f32..1.0,
        ) {
            let mut state = seed;
            let mut random = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 40) as i32
            };
            let vector: Vec<i16> = (0..d).map(|_| random() as i16).collect();
            let factors: Vec<i8> = (0..d * count).map(|_| (random() as i8).max(-127)).collect();
            let scales: Vec<f32> = (0..count).map(|_| (random() & 255) as f32 / 1024.0).collect();
            let priors: Vec<f32> = (0..count).map(|_| random() as i8 as f32 / 128.0).collect();
            let user = User { vector: &vector, dot_scale: 1e-6 };
            let rows = Rows { factors: &factors, scales: &scales, priors: &priors };
            let (mut fast, mut slow) = ([0.0; BLOCK], [0.0; BLOCK]);
            let any = score_block(user, rows, threshold, &mut fast);
            prop_assert_eq!(any, score_by(plain::dot_rows, user, rows, threshold, &mut slow));
            prop_assert_eq!(fast.map(f32::to_bits), slow.map(f32::to_bits));
            for at in 0..count {
                let exact = dot(&vector, &factors[at * d..][..d]) as f32 * (1e-6 * scales[at]) + priors[at];
                prop_assert_eq!(exact.to_bits(), fast[at].to_bits());
            }
        }
    }
}
