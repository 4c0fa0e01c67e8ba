//! Evidence: what stands behind one row until it is published. It keeps the factor of each delta
//! beside a weight, some tens of bytes, and becomes sums only when the row is published.
//!
//! ```text
//! A_i = Σ w·p pᵀ    b_i = Σ w·t·p    N_i = Σ w    T[a → b] = Σ weight
//! ```
//!
//! The sums are integers, so that neither the order of the deltas nor how they are grouped matters.

use crate::ids::Row;
use crate::sync::delta::Delta;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use nearfield_kernels::algebra::packed_len;
#[cfg(target_arch = "wasm32")]
use nearfield_kernels::float::Float as _;
use serde::{Deserialize, Serialize};

/// Fixed point of weights: 2⁻⁸.
pub(super) const WEIGHT_ONE: f64 = 256.0;
/// Fixed point of transitions: 2⁻¹⁶.
pub(super) const TRANSITION_ONE: f64 = 65_536.0;

/// Bytes of a neighbour in a B-tree, with what the tree leaves free (an estimate).
const NEIGHBOUR_BYTES: usize = 40;

/// A person's factor: p = scale · values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Factor {
    pub(super) scale: f32,
    pub(super) values: Box<[i8]>,
}

impl Factor {
    pub(super) fn of(delta: &Delta) -> Self {
        Self { scale: delta.factor_scale, values: delta.factor.as_slice().into() }
    }

    /// Returns about how many bytes of memory it takes.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.values.len()
    }
}

/// A factor and how much it counts for a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Weighted {
    pub(super) factor: Factor,
    /// Σ w, in units of 2⁻⁸.
    pub(super) weight: u32,
    /// Σ w·t, in units of 2⁻⁸.
    pub(super) positive: u32,
}

/// What stands behind one row.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Evidence {
    /// One for each delta that touched the row, in an order of their own bytes.
    pub(super) factors: Vec<Weighted>,
    /// The part of Σ w·t from events that start a session, in units of 2⁻⁸.
    pub(super) entries: u64,
    /// Transitions to other rows and from them, in units of 2⁻¹⁶.
    pub(super) neighbours: BTreeMap<Row, [u64; 2]>,
}

impl Evidence {
    /// Adds other evidence on the same row.
    pub(super) fn add(&mut self, others: impl Iterator<Item = Self>) {
        for other in others {
            self.factors.extend(other.factors);
            self.entries += other.entries;
            for (row, weights) in other.neighbours {
                let sums = self.neighbours.entry(row).or_default();
                sums.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += weight);
            }
        }
        // An order by arrival would tell rows of one delta together, and would make the bytes depend on it.
        self.factors.sort_by(|a, b| {
            let key = |w: &Weighted| (w.factor.scale.to_bits(), w.weight, w.positive);
            key(a).cmp(&key(b)).then_with(|| a.factor.values.cmp(&b.factor.values))
        });
    }

    /// Returns about how many bytes of memory it takes.
    pub(super) fn bytes(&self) -> u64 {
        let factors: usize = self.factors.iter().map(|weighted| weighted.factor.bytes() + 8).sum();
        (factors + self.neighbours.len() * NEIGHBOUR_BYTES) as u64
    }

    /// Returns N = Σ w in units of 2⁻⁸.
    pub(super) fn weight(&self) -> u64 {
        self.factors.iter().map(|weighted| u64::from(weighted.weight)).sum()
    }

    /// Returns Σ w·t in units of 2⁻⁸.
    pub(super) fn positive(&self) -> u64 {
        self.factors.iter().map(|weighted| u64::from(weighted.positive)).sum()
    }

    /// Returns A (packed) and b.
    pub(super) fn sums(&self, dim: usize) -> (Vec<f64>, Vec<f64>) {
        let squares = self.factors.iter().map(|w| (&w.factor, f64::from(w.weight) / WEIGHT_ONE));
        let lines = self.factors.iter().map(|w| (&w.factor, f64::from(w.positive) / WEIGHT_ONE));
        (outer_sum(dim, squares), line_sum(dim, lines))
    }
}

/// Returns Σ w·p pᵀ, packed (d(d+1)/2), the same in any order of the factors.
pub(super) fn outer_sum<'a>(
    dim: usize,
    weighted: impl Iterator<Item = (&'a Factor, f64)> + Clone,
) -> Vec<f64> {
    let square = |(factor, weight): (&'a Factor, f64)| {
        (factor, f64::from(factor.scale) * f64::from(factor.scale) * weight)
    };
    exact_sum(packed_len(dim), weighted.map(square), |factor, coefficient, sums| {
        let mut at = 0;
        for (i, left) in factor.values.iter().enumerate() {
            let left = coefficient * i64::from(*left);
            for (sum, right) in sums[at..].iter_mut().zip(&factor.values[..=i]) {
                *sum += left * i64::from(*right);
            }
            at += i + 1;
        }
    })
}

/// Returns Σ w·p (d), the same in any order of the factors.
fn line_sum<'a>(dim: usize, weighted: impl Iterator<Item = (&'a Factor, f64)> + Clone) -> Vec<f64> {
    let scaled = |(factor, weight): (&'a Factor, f64)| (factor, f64::from(factor.scale) * weight);
    exact_sum(dim, weighted.map(scaled), |factor, coefficient, sums| {
        sums.iter_mut().zip(&factor.values).for_each(|(sum, value)| *sum += coefficient * i64::from(*value));
    })
}

/// Adds up coefficient · (integers of at most 2¹⁴) over all factors in 64-bit integers.
///
/// A coefficient is rounded once, to a unit that the largest of them and their number decide:
///
/// ```text
/// 2ᵉ ≥ largest coefficient    2ⁿ ≥ number of factors    unit = 2^(e + n − 48)
/// |sum| ≤ 2ⁿ · 2^(48 − n) · 2¹⁴ = 2⁶² < 2⁶³
/// ```
///
/// So no sum can wrap, whatever the bounds of the model and however many deltas come, and each keeps at
/// least 48 − n bits of the largest coefficient. All of it is exact but that rounding, which no other factor
/// changes except by the unit; both largest and number are the same in any order.
fn exact_sum<'a>(
    len: usize,
    terms: impl Iterator<Item = (&'a Factor, f64)> + Clone,
    mut add: impl FnMut(&'a Factor, i64, &mut [i64]),
) -> Vec<f64> {
    let (mut largest, mut count) = (0.0f64, 0usize);
    for (_, coefficient) in terms.clone() {
        largest = largest.max(coefficient);
        count += 1;
    }
    if largest == 0.0 {
        return vec![0.0; len];
    }
    let (_, exponent) = libm::frexp(largest);
    let shift = 48 - count.next_power_of_two().trailing_zeros() as i32 - exponent;
    let mut sums = vec![0i64; len];
    for (factor, coefficient) in terms {
        add(factor, f64::round_ties_even(libm::ldexp(coefficient, shift)) as i64, &mut sums);
    }
    sums.into_iter().map(|sum| libm::ldexp(sum as f64, -shift)).collect()
}

#[cfg(test)]
mod tests {
    use super::{Evidence, Factor, Weighted, outer_sum};
    use proptest::prelude::*;

    /// The largest that a model's bounds allow: norm 64, weight 100, 16 mentions; and far below.
    fn weighted(dim: usize) -> impl Strategy<Value = Weighted> {
        let values = prop::collection::vec(any::<i8>(), dim);
        (values, 1e-6f32..=0.5, 1u32..=100 * 256 * 16, any::<bool>()).prop_map(
            |(values, scale, weight, wanted)| Weighted {
                factor: Factor { scale, values: values.into() },
                weight,
                positive: if wanted { weight } else { 0 },
            },
        )
    }

    fn evidence(factors: Vec<Weighted>) -> Evidence {
        Evidence { factors, ..Evidence::default() }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn neither_order_nor_grouping_of_the_factors_changes_a_bit(
            (factors, order, cut) in prop::collection::vec(weighted(6), 1..40).prop_flat_map(|factors| {
                let order = Just((0..factors.len()).collect::<Vec<_>>()).prop_shuffle();
                let cut = 0..=factors.len();
                (Just(factors), order, cut)
            })
        ) {
            let mut whole = Evidence::default();
            whole.add(core::iter::once(evidence(factors.clone())));
            let shuffled: Vec<Weighted> = order.iter().map(|at| factors[*at].clone()).collect();
            let mut in_parts = evidence(shuffled[..cut].to_vec());
            in_parts.add(core::iter::once(evidence(shuffled[cut..].to_vec())));
            prop_assert_eq!(postcard::to_allocvec(&whole).unwrap(), postcard::to_allocvec(&in_parts).unwrap());
            prop_assert_eq!(whole.sums(6), evidence(shuffled).sums(6));
        }

        #[test]
        fn sums_at_the_bounds_equal_those_of_floating_point_and_never_wrap(
            kinds in prop::collection::vec(weighted(4), 1..4), times in 1usize..20_000
        ) {
            let factors: Vec<Weighted> = kinds.iter().cycle().take(times).cloned().collect();
            let (a, b) = evidence(factors.clone()).sums(4);
            let mut expected = ([0.0f64; 10], [0.0f64; 4]);
            let mut largest = [0.0f64; 2];
            for Weighted { factor, weight, positive } in &factors {
                let p: Vec<f64> = factor.values.iter().map(|v| f64::from(*v) * f64::from(factor.scale)).collect();
                let (w, t) = (f64::from(*weight) / 256.0, f64::from(*positive) / 256.0);
                let mut at = 0;
                for i in 0..4 {
                    expected.1[i] += t * p[i];
                    largest[1] += (t * p[i]).abs();
                    for j in 0..=i {
                        expected.0[at] += w * p[i] * p[j];
                        largest[0] += (w * p[i] * p[j]).abs();
                        at += 1;
                    }
                }
            }
            for (sums, expected, largest) in [(&a, &expected.0[..], largest[0]), (&b, &expected.1[..], largest[1])] {
                for (sum, expected) in sums.iter().zip(expected) {
                    prop_assert!((sum - expected).abs() <= largest * 1e-6, "{} and {}", sum, expected);
                }
            }
        }
    }

    #[test]
    fn six_thousand_touches_at_the_largest_norm_and_weight_do_not_wrap() {
        // Norm 64 in one coordinate, weight 100, 16 mentions: fixed sums in 2⁻³² wrapped after 5,400 touches.
        let factor = Factor { scale: 64.0 / 127.0, values: [127].into() };
        let sum = outer_sum(1, core::iter::repeat_n((&factor, 1600.0), 6_000));
        let expected = 6_000.0 * 1600.0 * 64.0 * 64.0;
        assert!((sum[0] / expected - 1.0).abs() < 1e-6, "{} and {expected}", sum[0]);
    }
}
