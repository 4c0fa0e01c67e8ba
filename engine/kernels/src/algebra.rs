//! Packed symmetric matrices: sums of outer products, normal equations, and their solve.
//!
//! A symmetric matrix is kept as its lower triangle by rows: entry (i, j), j ≤ i, at i(i+1)/2 + j.
//! The same solve gives a person's factor from the items and an item's row from its people.

#[cfg(target_arch = "wasm32")]
use crate::float::Float as _;
use alloc::vec;
use alloc::vec::Vec;

/// Returns the entries of a packed lower triangle of order `d`.
pub fn packed_len(d: usize) -> usize {
    d * (d + 1) / 2
}

/// Adds `weight`·q qᵀ to a packed lower triangle.
#[cfg_attr(target_arch = "wasm32", inline(never))]
pub fn add_outer(packed: &mut [f32], q: &[f32], weight: f32) {
    let mut rest = packed;
    for i in 0..q.len() {
        let (row, tail) = rest.split_at_mut(i + 1);
        let left = weight * q[i];
        for (entry, right) in row.iter_mut().zip(q) {
            *entry += left * right;
        }
        rest = tail;
    }
}

/// Returns base to the power of `exponent`, by the same multiplications on every host.
pub fn power(base: f32, exponent: usize) -> f32 {
    let (mut product, mut square, mut rest) = (1.0, base, exponent);
    while rest > 0 {
        if rest % 2 == 1 {
            product *= square;
        }
        square *= square;
        rest /= 2;
    }
    product
}

/// Adds `weight`·x to y.
#[cfg_attr(target_arch = "wasm32", inline(never))]
pub fn add_scaled(y: &mut [f32], x: &[f32], weight: f32) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += weight * x;
    }
}

/// Normal equations of one person or one item: A (packed), b, and the total weight h.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NormalEquations {
    /// Σ w·q qᵀ, packed.
    pub a: Vec<f32>,
    /// Σ w·t·q.
    pub b: Vec<f32>,
    /// Σ w.
    pub h: f32,
}

impl NormalEquations {
    /// Returns empty equations for `d` factors.
    pub fn new(d: usize) -> Self {
        Self { a: vec![0.0; packed_len(d)], b: vec![0.0; d], h: 0.0 }
    }

    /// Adds one observation of row q with confidence `weight` and target `target`.
    #[cfg_attr(target_arch = "wasm32", inline(never))]
    pub fn add(&mut self, q: &[f32], weight: f32, target: f32) {
        add_outer(&mut self.a, q, weight);
        add_scaled(&mut self.b, q, weight * target);
        self.h += weight;
    }

    /// Multiplies everything by `factor`.
    #[cfg_attr(target_arch = "wasm32", inline(never))]
    pub fn scale(&mut self, factor: f32) {
        self.a.iter_mut().chain(&mut self.b).for_each(|entry| *entry *= factor);
        self.h *= factor;
    }

    /// Sets everything to zero.
    pub fn clear(&mut self) {
        self.a.fill(0.0);
        self.b.fill(0.0);
        self.h = 0.0;
    }
}

/// Scratch memory for solves, reused so that a solve allocates nothing.
#[derive(Clone, Debug, Default)]
pub struct Solver {
    /// The matrix, then its factor L, packed.
    factor: Vec<f32>,
    /// The right side, then x.
    x: Vec<f32>,
}

impl Solver {
    /// Returns room for `d` factors; it grows for a larger system.
    pub fn new(d: usize) -> Self {
        Self { factor: Vec::with_capacity(packed_len(d)), x: Vec::with_capacity(d) }
    }

    /// Solves (Σ weightₖ·Mₖ + ridge·I) x = b for packed symmetric Mₖ and returns x, or `None`
    /// where the matrix is not positive definite.
    ///
    /// The factorisation is A = LᵀL, which eliminates the last unknown first, so that each step
    /// subtracts from the rows above along their packed entries:
    ///
    /// ```text
    /// for k = d − 1 … 0:   L_kk = √a_kk    L_kj = a_kj / L_kk    a_ij ← a_ij − L_ki L_kj   (j ≤ i < k)
    /// ```
    ///
    /// Only plain multiplications and subtractions, never fused, each entry in one fixed order (k
    /// falling): so native and wasm agree to the bit, whatever the width of their vectors.
    pub fn solve(&mut self, parts: &[(f32, &[f32])], ridge: f32, b: &[f32]) -> Option<&[f32]> {
        self.factorise(parts, ridge, b.len())?;
        self.solve_again(b)
    }

    /// Factorises Σ weightₖ·Mₖ + ridge·I of order `d`, for what follows; `None` where it is not positive
    /// definite.
    #[cfg_attr(target_arch = "wasm32", inline(never))]
    pub fn factorise(&mut self, parts: &[(f32, &[f32])], ridge: f32, d: usize) -> Option<()> {
        let factor = &mut self.factor;
        factor.clear();
        factor.resize(packed_len(d), 0.0);
        for (weight, packed) in parts {
            add_scaled(factor, packed, *weight);
        }
        for i in 0..d {
            factor[packed_len(i + 1) - 1] += ridge;
        }
        factorise(factor, d)
    }

    /// Solves A x = b for the matrix that was factorised last, and returns x.
    #[cfg_attr(target_arch = "wasm32", inline(never))]
    pub fn solve_again(&mut self, b: &[f32]) -> Option<&[f32]> {
        let Self { factor, x } = self;
        x.clear();
        x.extend_from_slice(b);
        // Lᵀy = b from the last unknown to the first, then Lx = y.
        for k in (0..b.len()).rev() {
            let row = &factor[packed_len(k)..packed_len(k + 1)];
            let (before, rest) = x.split_at_mut(k);
            rest[0] /= row[k];
            add_scaled(before, &row[..k], -rest[0]);
        }
        self.forward()
    }

    /// Returns L⁻¹z for the matrix A = LᵀL that was factorised last: with z ~ N(0, I) it is distributed as
    /// N(0, A⁻¹).
    #[cfg_attr(target_arch = "wasm32", inline(never))]
    pub fn deviate(&mut self, z: &[f32]) -> Option<&[f32]> {
        self.x.clear();
        self.x.extend_from_slice(z);
        self.forward()
    }

    /// Overwrites y by the x of Lx = y.
    fn forward(&mut self) -> Option<&[f32]> {
        let Self { factor, x } = self;
        for k in 0..x.len() {
            let row = &factor[packed_len(k)..packed_len(k + 1)];
            let known = inner(&row[..k], &x[..k]);
            x[k] = (x[k] - known) / row[k];
        }
        Some(x.as_slice()).filter(|x| x.iter().all(|value| value.is_finite()))
    }
}

/// Pivots that are eliminated together: each entry above them is read and written once for all.
const PANEL: usize = 4;

/// Overwrites a packed matrix by its factor L, A = LᵀL; `None` where it is not positive definite.
#[cfg_attr(target_arch = "wasm32", inline(never))]
fn factorise(packed: &mut [f32], d: usize) -> Option<()> {
    let mut end = d;
    while end > 0 {
        let start = end.saturating_sub(PANEL);
        // The panel by itself, from its last row up.
        for k in (start..end).rev() {
            let (above, row) = packed[..packed_len(k + 1)].split_at_mut(packed_len(k));
            let pivot = row[k];
            if !(pivot > 0.0 && pivot.is_finite()) {
                return None;
            }
            let root = f32::sqrt(pivot);
            row[k] = root;
            let inverse = 1.0 / root;
            row[..k].iter_mut().for_each(|entry| *entry *= inverse);
            for i in start..k {
                add_scaled(&mut above[packed_len(i)..packed_len(i + 1)], &row[..=i], -row[i]);
            }
        }
        // Then every row above it.
        let (above, panel) = packed[..packed_len(end)].split_at_mut(packed_len(start));
        if end - start == PANEL {
            let row = |k: usize| &panel[packed_len(start + k) - packed_len(start)..][..start];
            let rows = [row(3), row(2), row(1), row(0)];
            for i in 0..start {
                let entries = &mut above[packed_len(i)..packed_len(i + 1)];
                let [a, b, c, e] = rows.map(|row| &row[..entries.len()]);
                let [fa, fb, fc, fe] = rows.map(|row| row[i]);
                for (j, entry) in entries.iter_mut().enumerate() {
                    *entry = *entry - fa * a[j] - fb * b[j] - fc * c[j] - fe * e[j];
                }
            }
        }
        end = start;
    }
    Some(())
}

/// Returns x·y, summed in eight lanes that are added up at the end in their order.
#[cfg_attr(target_arch = "wasm32", inline(never))]
pub fn inner(x: &[f32], y: &[f32]) -> f32 {
    let (x_steps, x_rest) = x.as_chunks::<8>();
    let (y_steps, y_rest) = y.as_chunks::<8>();
    let mut lanes = [0.0f32; 8];
    for (x, y) in x_steps.iter().zip(y_steps) {
        for lane in 0..8 {
            lanes[lane] += x[lane] * y[lane];
        }
    }
    for (lane, (x, y)) in lanes.iter_mut().zip(x_rest.iter().zip(y_rest)) {
        *lane += x * y;
    }
    lanes.iter().sum()
}

/// Returns xᵀMx for a packed symmetric M.
#[cfg_attr(target_arch = "wasm32", inline(never))]
pub fn quadratic_form(packed: &[f32], x: &[f32]) -> f32 {
    let mut rest = packed;
    let mut sum = 0.0;
    for i in 0..x.len() {
        let (row, below) = rest.split_at(i + 1);
        sum += x[i] * (2.0 * inner(&row[..i], &x[..i]) + row[i] * x[i]);
        rest = below;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_system_is_solved() {
        // (2·[[1, 0], [0, 1]] + q qᵀ + 1·I) x = b with q = (1, 2): [[4, 2], [2, 7]] x = (8, 16) → x = (1, 2).
        let mut equations = NormalEquations::new(2);
        equations.add(&[1.0, 2.0], 1.0, 1.0);
        let identity = [1.0, 0.0, 1.0];
        let mut solver = Solver::new(2);
        let x = solver.solve(&[(2.0, &identity), (1.0, &equations.a)], 1.0, &[8.0, 16.0]).unwrap();
        assert!((x[0] - 1.0).abs() < 1e-6 && (x[1] - 2.0).abs() < 1e-6, "{x:?}");
    }

    #[test]
    fn an_indefinite_system_gives_none_and_the_solver_stays_usable() {
        let mut solver = Solver::new(2);
        assert!(solver.solve(&[(1.0, &[0.0, 1.0, 0.0])], 0.0, &[1.0, 1.0]).is_none());
        let x = solver.solve(&[], 2.0, &[4.0, 6.0]).unwrap();
        assert!((x[0] - 2.0).abs() < 1e-6 && (x[1] - 3.0).abs() < 1e-6, "{x:?}");
    }

    #[test]
    fn the_quadratic_form_counts_off_diagonals_twice() {
        // [[1, 2], [2, 3]] and x = (1, 1): 1 + 2·2 + 3.
        assert_eq!(quadratic_form(&[1.0, 2.0, 3.0], &[1.0, 1.0]), 8.0);
    }

    #[test]
    fn a_solve_is_as_near_to_f64_as_single_precision_allows() {
        use nalgebra::{DMatrix, DVector};
        let mut seed = 3u64;
        let mut random = move || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        for d in [1, 2, 3, 4, 5, 8, 31, 64, 97] {
            let mut equations = NormalEquations::new(d);
            for _ in 0..2 * d {
                let q: Vec<f32> = (0..d).map(|_| random()).collect();
                equations.add(&q, 0.5, 1.0);
            }
            let x = Solver::new(d).solve(&[(1.0, &equations.a)], 0.7, &equations.b).unwrap().to_vec();
            let entry = |i: usize, j: usize| {
                let (low, high) = (i.min(j), i.max(j));
                f64::from(equations.a[packed_len(high) + low]) + if i == j { f64::from(0.7f32) } else { 0.0 }
            };
            let b = DVector::from_iterator(d, equations.b.iter().map(|value| f64::from(*value)));
            let exact = DMatrix::from_fn(d, d, entry).cholesky().unwrap().solve(&b);
            let wrong = x.iter().zip(exact.iter()).map(|(x, e)| (f64::from(*x) - e).powi(2)).sum::<f64>();
            assert!(wrong.sqrt() <= 2e-6 * exact.norm(), "d = {d}: {wrong} beside {}", exact.norm());
        }
    }
}
