//! Dense algebra of the trainer, by nalgebra.
//!
//! A row y of one side is solved against the rows x of the other side that it met:
//!
//! ```text
//! (α G + Σ w x xᵀ + ridge·I) y = Σ w·t·x        G = Σ x xᵀ over all rows of the other side
//! ```
//!
//! With many observations this is a Cholesky factorisation of d × d. With few it is solved where the
//! observations are (Woodbury), since one eigen-decomposition G = V Λ Vᵀ serves all rows:
//!
//! ```text
//! D = α Λ + ridge·I     Z = (√w · D^-½ Vᵀ x), a column for each observation
//! y = V D^-½ Z (I + Zᵀ Z)⁻¹ √w·t
//! ```
//!
//! Sums run in the order of the observations and of fixed blocks, so that a result does not depend on the number
//! of threads.

use nalgebra::linalg::{Cholesky, SymmetricEigen};
use nalgebra::{DMatrix, DVector, DVectorView};
use rayon::prelude::*;

/// Rows of a block that is summed by one thread.
const BLOCK: usize = 1024;

/// An observation: the index of a row of the other side, Σ w, Σ w·t.
pub(crate) type Observation = (u32, f32, f32);

/// All rows of one side, as the other side's rows are solved against them.
pub(crate) struct Side<'a> {
    dim: usize,
    rows: &'a [f32],
    gram: DMatrix<f32>,
    vectors: DMatrix<f32>,
    values: DVector<f32>,
    /// Vᵀ x of every row.
    rotated: Vec<f32>,
}

impl<'a> Side<'a> {
    /// Returns a side of rows of `dim` numbers.
    pub(crate) fn new(rows: &'a [f32], dim: usize) -> Self {
        let gram = gram(rows, dim);
        let SymmetricEigen { eigenvectors, eigenvalues } = SymmetricEigen::new(gram.map(f64::from));
        let vectors = eigenvectors.map(|value| value as f32);
        // Rounding may leave a zero below zero.
        let values = eigenvalues.map(|value| value.max(0.0) as f32);
        let mut rotated = vec![0.0; rows.len()];
        rotate(rows, &vectors, &mut rotated);
        Self { dim, rows, gram, vectors, values, rotated }
    }

    /// Returns the number of rows.
    pub(crate) fn len(&self) -> usize {
        self.rows.len() / self.dim
    }

    /// Solves a row with α and the ridge; `None` where the matrix is not positive definite.
    pub(crate) fn solve(&self, alpha: f32, ridge: f32, observations: &[Observation]) -> Option<DVector<f32>> {
        // Beside d³/3 for the factorisation and nd²/2 for the sums, nd² stands.
        let y = if observations.len() <= self.dim / 2 {
            self.solve_few(alpha, ridge, observations)
        } else {
            self.solve_many(alpha, ridge, observations)
        };
        y.filter(|y| y.iter().all(|value| value.is_finite()))
    }

    fn solve_many(&self, alpha: f32, ridge: f32, observations: &[Observation]) -> Option<DVector<f32>> {
        let mut square = &self.gram * alpha;
        let mut right = DVector::zeros(self.dim);
        let row = |index: u32| &self.rows[index as usize * self.dim..][..self.dim];
        for (index, _, positive) in observations {
            right.axpy(*positive, &DVectorView::from_slice(row(*index), self.dim), 1.0);
        }
        // The lower triangle is all that the factorisation reads.
        add_squares(
            square.as_mut_slice(),
            observations.iter().map(|(index, weight, _)| (row(*index), *weight)),
        );
        for at in 0..self.dim {
            square[(at, at)] += ridge;
        }
        Cholesky::new(square)?.solve_mut(&mut right);
        Some(right)
    }

    fn solve_few(&self, alpha: f32, ridge: f32, observations: &[Observation]) -> Option<DVector<f32>> {
        let n = observations.len();
        let roots = self.values.map(|value| (alpha * value + ridge).sqrt().recip());
        let mut z = DMatrix::zeros(self.dim, n);
        let mut right = DVector::zeros(n);
        for ((index, weight, positive), (at, mut column)) in
            observations.iter().zip(z.column_iter_mut().enumerate())
        {
            let rotated = &self.rotated[*index as usize * self.dim..][..self.dim];
            let root = weight.sqrt();
            column.iter_mut().zip(rotated).zip(&roots).for_each(|((z, x), d)| *z = root * d * x);
            right[at] = positive / root;
        }
        let mut square = z.tr_mul(&z);
        for at in 0..n {
            square[(at, at)] += 1.0;
        }
        Cholesky::new(square)?.solve_mut(&mut right);
        let mut y = z * right;
        y.component_mul_assign(&roots);
        Some(&self.vectors * y)
    }
}

/// Returns the eigenvectors of a symmetric matrix as columns, that of the largest eigenvalue first.
pub(crate) fn eigenvectors(square: &DMatrix<f32>) -> DMatrix<f32> {
    let SymmetricEigen { eigenvectors, eigenvalues } = SymmetricEigen::new(square.map(f64::from));
    let mut order: Vec<usize> = (0..eigenvalues.len()).collect();
    order.sort_by(|a, b| eigenvalues[*b].total_cmp(&eigenvalues[*a]));
    eigenvectors.select_columns(&order).map(|value| value as f32)
}

/// Writes Vᵀ x of every row x into `out`, row after row.
pub(crate) fn rotate(rows: &[f32], vectors: &DMatrix<f32>, out: &mut [f32]) {
    let dim = vectors.nrows();
    out.par_chunks_mut(dim).zip(rows.par_chunks(dim)).for_each(|(rotated, row)| {
        let row = DVectorView::from_slice(row, dim);
        for (value, vector) in rotated.iter_mut().zip(vectors.column_iter()) {
            *value = vector.dot(&row);
        }
    });
}

/// Returns Σ x xᵀ over rows: partial sums of fixed blocks, added in order.
pub(crate) fn gram(rows: &[f32], dim: usize) -> DMatrix<f32> {
    let blocks: Vec<DMatrix<f32>> = rows
        .par_chunks(BLOCK * dim)
        .map(|block| {
            let mut sum = DMatrix::zeros(dim, dim);
            add_squares(sum.as_mut_slice(), block.chunks_exact(dim).map(|row| (row, 1.0)));
            sum
        })
        .collect();
    let mut total = DMatrix::zeros(dim, dim);
    blocks.iter().for_each(|block| total += block);
    total.fill_upper_triangle_with_lower_triangle();
    total
}

/// Rows whose squares are added at once: each entry is read and written once for all.
const AT_ONCE: usize = 4;

/// Adds Σ w·x xᵀ to the lower triangle of a d × d matrix, column after column, in the order of the rows; a few entries
/// above it change, too.
fn add_squares<'a>(square: &mut [f32], rows: impl Iterator<Item = (&'a [f32], f32)>) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        #[expect(unsafe_code, reason = "a call into code for a processor that was just found")]
        // SAFETY: the processor has AVX2.
        return unsafe { add_squares_avx2(square, rows) };
    }
    add_squares_of(square, rows);
}

/// The same with vectors twice as wide as every x86-64 processor has; nothing is fused, so the bits are the same.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn add_squares_avx2<'a>(square: &mut [f32], rows: impl Iterator<Item = (&'a [f32], f32)>) {
    add_squares_of(square, rows);
}

#[inline(always)]
fn add_squares_of<'a>(square: &mut [f32], rows: impl Iterator<Item = (&'a [f32], f32)>) {
    let mut held = [(&[][..], 0.0); AT_ONCE];
    let mut count = 0;
    for row in rows {
        held[count] = row;
        count += 1;
        if count == AT_ONCE {
            add_four(square, &held);
            count = 0;
        }
    }
    for (x, weight) in &held[..count] {
        let dim = x.len();
        for (j, column) in square.chunks_exact_mut(dim).enumerate() {
            let left = weight * x[j];
            column[j..].iter_mut().zip(&x[j..]).for_each(|(entry, right)| *entry += left * right);
        }
    }
}

/// Numbers of a vector.
const LANES: usize = 8;

#[inline(always)]
fn add_four(square: &mut [f32], rows: &[(&[f32], f32); AT_ONCE]) {
    let dim = rows[0].0.len();
    for (j, column) in square.chunks_exact_mut(dim).enumerate() {
        let [fa, fb, fc, fe] = rows.map(|(x, weight)| weight * x[j]);
        let sum = |entry: f32, [a, b, c, e]: [f32; AT_ONCE]| entry + fa * a + fb * b + fc * c + fe * e;
        // From the last whole vector before the diagonal on; what is above the diagonal is never read.
        let start = j / LANES * LANES;
        let (entries, rest) = column[start..].as_chunks_mut::<LANES>();
        let [a, b, c, e] = rows.map(|(x, _)| x[start..].as_chunks::<LANES>());
        for ((((entries, a), b), c), e) in entries.iter_mut().zip(a.0).zip(b.0).zip(c.0).zip(e.0) {
            for (lane, entry) in entries.iter_mut().enumerate() {
                *entry = sum(*entry, [a[lane], b[lane], c[lane], e[lane]]);
            }
        }
        for (at, entry) in rest.iter_mut().enumerate() {
            *entry = sum(*entry, [a.1[at], b.1[at], c.1[at], e.1[at]]);
        }
    }
}

/// Returns the lower triangle by rows.
pub(crate) fn pack(square: &DMatrix<f32>) -> Vec<f32> {
    (0..square.nrows()).flat_map(|i| (0..=i).map(move |j| square[(i, j)])).collect()
}

/// Returns x·y.
pub(crate) fn inner(x: &[f32], y: &[f32]) -> f32 {
    DVectorView::from_slice(x, x.len()).dot(&DVectorView::from_slice(y, y.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearfield_engine::algebra::{NormalEquations, Solver};

    /// Numbers between -1 and 1 that follow no pattern.
    fn number(index: usize) -> f32 {
        ((index as f32 + 1.0) * 12.9898).sin()
    }

    fn observations(count: usize, rows: usize) -> Vec<Observation> {
        let observation = |at: usize| {
            let weight = 1.0 + (at % 3) as f32;
            ((at * 7 % rows) as u32, weight, if at.is_multiple_of(5) { 0.0 } else { weight })
        };
        (0..count).map(observation).collect()
    }

    #[test]
    fn a_row_is_solved_as_the_fold_in_solves_it_with_few_observations_and_with_many() {
        for dim in [1, 7, 13, 64] {
            let rows: Vec<f32> = (0..300 * dim).map(number).collect();
            let side = Side::new(&rows, dim);
            for count in [0, 1, dim / 2, dim, 3 * dim] {
                let observations = observations(count, side.len());
                let mut sums = NormalEquations::new(dim);
                for (index, weight, positive) in &observations {
                    sums.add(&rows[*index as usize * dim..][..dim], *weight, positive / weight);
                }
                let mut solver = Solver::new(dim);
                let parts = [(0.5, &pack(&side.gram)[..]), (1.0, &sums.a[..])];
                let expected = DVector::from_column_slice(solver.solve(&parts, 2.0, &sums.b).unwrap());
                let mut ways = vec![
                    side.solve(0.5, 2.0, &observations).unwrap(),
                    side.solve_many(0.5, 2.0, &observations).unwrap(),
                ];
                if count <= dim {
                    ways.push(side.solve_few(0.5, 2.0, &observations).unwrap());
                }
                for found in ways {
                    let wrong = (&found - &expected).norm();
                    assert!(wrong <= 3e-4 * expected.norm(), "d = {dim}, {count} observations: {wrong}");
                }
            }
        }
    }

    #[test]
    fn a_system_without_a_solution_gives_none() {
        // Nothing is known of the second factor, and there is no ridge.
        let side = Side::new(&[1.0, 0.0, 2.0, 0.0], 2);
        let many = [(0, 1.0, 1.0), (1, 1.0, 1.0), (0, 1.0, 0.0)];
        assert!(side.solve(1.0, 0.0, &many).is_none());
        assert!(side.solve(1.0, 0.0, &many[..1]).is_none());
        assert!(side.solve(1.0, 0.5, &many).is_some());
    }
}
