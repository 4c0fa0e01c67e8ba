//! The inner loop of ranking: a block of int8 rows against a 16-bit user vector.
//!
//! ```text
//! dot_i   = Σ_j u_j q_ij                                    integers, so the same in any order
//! score_i = dot_i · (dot_scale · scale_i) + prior_i         one multiplication, one addition
//! ```
//!
//! Three forms of one algorithm: AVX2 where the processor has it, simd128 in WebAssembly, plain loops
//! elsewhere. The dot product is exact and the rest is elementwise, so all give the same bits.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg_attr(all(target_arch = "wasm32", target_feature = "simd128"), allow(dead_code))]
mod plain;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod simd128;

use crate::model::priors::BLOCK;

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

/// The elementwise part, the same code for every form.
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
