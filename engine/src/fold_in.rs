//! The fold-in: a person's factor from the items that the person touched.
//!
//! ```text
//! A ← A + w·q qᵀ     b ← b + w·t·q     h ← h + w
//! p = (α0 G + A₁ + κ A₂ + λ (h + α0 n) I)⁻¹ (b₁ + κ b₂)
//! ```
//!
//! with q (d) the item's row, w and t the event's confidence and target, G = QᵀQ (d × d), n the
//! number of rows; iALS with frequency-scaled ridge: Rendle, Krichene, Zhang, Koren (2021),
//! arXiv 2110.14037. The same solve gives an item's row from the statistics of its people.
//!
//! Symmetric matrices are kept as their lower triangle by rows: entry (i, j), j ≤ i, at
//! i(i+1)/2 + j.

use nalgebra::{Cholesky, DMatrix, DVector, Dyn};

/// Returns the entries of a packed lower triangle of order `d`.
pub fn packed_len(d: usize) -> usize {
    d * (d + 1) / 2
}

/// Adds `weight`·q qᵀ to a packed lower triangle.
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

/// Adds `weight`·x to y.
pub fn add_scaled(y: &mut [f32], x: &[f32], weight: f32) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += weight * x;
    }
}

/// Normal equations of one person or one item: A (packed), b, and the weight h behind them.
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
    pub fn add(&mut self, q: &[f32], weight: f32, target: f32) {
        add_outer(&mut self.a, q, weight);
        add_scaled(&mut self.b, q, weight * target);
        self.h += weight;
    }

    /// Multiplies everything by `factor`.
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

/// Room for solves of one size, used again and again so that a solve allocates nothing.
#[derive(Clone, Debug)]
pub struct Solver {
    matrix: Option<DMatrix<f32>>,
    right: DVector<f32>,
}

impl Solver {
    /// Returns room for `d` factors.
    pub fn new(d: usize) -> Self {
        Self { matrix: Some(DMatrix::zeros(d, d)), right: DVector::zeros(d) }
    }

    /// Solves (Σ weightₖ·Mₖ + ridge·I) x = b for packed symmetric Mₖ and returns x, or `None`
    /// where the matrix is not positive definite.
    ///
    /// The Cholesky factorisation is nalgebra's column-oriented one: plain multiplications and
    /// additions in one order, no fused ones, so that native and wasm agree to the bit.
    pub fn solve(&mut self, parts: &[(f32, &[f32])], ridge: f32, b: &[f32]) -> Option<&[f32]> {
        let d = b.len();
        let mut matrix =
            self.matrix.take().filter(|m| m.nrows() == d).unwrap_or_else(|| DMatrix::zeros(d, d));
        // Entry (i, j) of the packed triangle by rows is entry (j, i) of the upper triangle by
        // columns; the factorisation reads the lower one, so each is written transposed.
        let mut at = 0;
        for i in 0..d {
            for j in 0..=i {
                let mut sum = 0.0;
                for (weight, packed) in parts {
                    sum += weight * packed[at];
                }
                matrix[(i, j)] = sum;
                at += 1;
            }
            matrix[(i, i)] += ridge;
        }
        if self.right.len() != d {
            self.right = DVector::zeros(d);
        }
        self.right.copy_from_slice(b);
        let cholesky: Cholesky<f32, Dyn> = Cholesky::new(matrix)?;
        cholesky.solve_mut(&mut self.right);
        self.matrix = Some(cholesky.unpack_dirty());
        Some(self.right.as_slice()).filter(|x| x.iter().all(|value| value.is_finite()))
    }
}

/// Returns xᵀMx for a packed symmetric M.
pub fn quadratic_form(packed: &[f32], x: &[f32]) -> f32 {
    let mut sum = 0.0;
    let mut at = 0;
    for i in 0..x.len() {
        let mut row = 0.0;
        for j in 0..i {
            row += packed[at + j] * x[j];
        }
        sum += x[i] * (2.0 * row + packed[at + i] * x[i]);
        at += i + 1;
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
}
