//! Rows of one side solved against the rows of the other side.
//!
//! A row y is solved against the rows x that it met:
//!
//! ```text
//! (α G + Σ w x xᵀ + ridge·I) y = Σ w·t·x        G = Σ x xᵀ over all rows of the other side
//! ```
//!
//! By itself with many observations this is a Cholesky factorisation of d × d. One eigen-decomposition G = V Λ Vᵀ
//! serves all rows, and with it the matrix becomes one that is close to I:
//!
//! ```text
//! D = α Λ + ridge·I     Z = (√w · D^-½ Vᵀ x), a column for each observation     y = V D^-½ z
//! (I + Z Zᵀ) z = Z (√w·t)
//! ```
//!
//! With few observations it is solved where the observations are (Woodbury): z = Z (I + Zᵀ Z)⁻¹ √w·t. A sweep with
//! many observations goes on from the row as it was, by conjugate gradients (Hestenes, Stiefel 1952, doi
//! 10.6028/jres.049.044; for this model Takács, Pilászy, Tikk 2011, doi 10.1145/2043932.2043987): as Σ x xᵀ over some
//! rows is at most G, no eigenvalue lies outside of 1 to 1 + max w / α, and a few steps do.

use super::dense::{Observation, add_rows, add_squares, gram, rotate};
use nalgebra::linalg::{Cholesky, SymmetricEigen};
use nalgebra::{DMatrix, DVector, DVectorView};

/// Conjugate gradients end where the residual is this part of the row; the error is then no larger, since no
/// eigenvalue is below 1 (choice: on a million pairs of films the loss of every sweep is that of exact solutions
/// to a part in ten thousand, and after twelve to a millionth).
const RESIDUAL: f32 = 3e-3;

/// Steps at most (choice: with 64 factors they take as long as a factorisation). The next sweep goes on.
const STEPS_MAX: usize = 16;

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

    /// Solves a row with α and the ridge from where it stands, nearly (see [`RESIDUAL`]) with many observations; it
    /// becomes 0 where the matrix is not positive definite.
    pub(crate) fn improve(&self, alpha: f32, ridge: f32, observations: &[Observation], row: &mut [f32]) {
        let y = if self.few(observations) {
            self.solve_few(alpha, ridge, observations)
        } else {
            Some(self.descend(alpha, ridge, observations, row))
        };
        match y.filter(is_finite) {
            Some(y) => row.copy_from_slice(y.as_slice()),
            None => row.fill(0.0),
        }
    }

    /// Solves a row with α and the ridge; `None` where the matrix is not positive definite.
    pub(crate) fn solve(&self, alpha: f32, ridge: f32, observations: &[Observation]) -> Option<DVector<f32>> {
        let y = if self.few(observations) {
            self.solve_few(alpha, ridge, observations)
        } else {
            self.solve_many(alpha, ridge, observations)
        };
        y.filter(is_finite)
    }

    /// Beside d³/3 for a factorisation and nd²/2 for its sums, and beside the steps of a descent, n²d stands.
    fn few(&self, observations: &[Observation]) -> bool {
        observations.len() <= self.dim / 2
    }

    /// Returns D^-½.
    fn roots(&self, alpha: f32, ridge: f32) -> DVector<f32> {
        self.values.map(|value| (alpha * value + ridge).sqrt().recip())
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
        let roots = self.roots(alpha, ridge);
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

    /// Conjugate gradients for z, from the row `start`.
    fn descend(&self, alpha: f32, ridge: f32, observations: &[Observation], start: &[f32]) -> DVector<f32> {
        let roots = self.roots(alpha, ridge);
        let mut rotated = self.vectors.tr_mul(&DVectorView::from_slice(start, self.dim));
        let mut z = rotated.component_div(&roots);
        // Z (√w·t) − (I + Z Zᵀ) z.
        let mut residual = DVector::zeros(self.dim);
        add_rows(
            &self.rotated,
            observations,
            rotated.as_slice(),
            residual.as_mut_slice(),
            |dot, weight, positive| positive - weight * dot,
        );
        residual.component_mul_assign(&roots);
        residual -= &z;
        let mut direction = residual.clone();
        let mut square = residual.norm_squared();
        let mut product = DVector::zeros(self.dim);
        for step in 0..STEPS_MAX {
            // One step is always taken, so that every sweep is an improvement.
            let near = square <= RESIDUAL * RESIDUAL * z.norm_squared();
            if (near && step > 0) || square == 0.0 {
                break;
            }
            // (I + Z Zᵀ) direction.
            rotated.copy_from(&direction);
            rotated.component_mul_assign(&roots);
            product.fill(0.0);
            add_rows(
                &self.rotated,
                observations,
                rotated.as_slice(),
                product.as_mut_slice(),
                |dot, weight, _| weight * dot,
            );
            product.component_mul_assign(&roots);
            product += &direction;

            let length = square / direction.dot(&product);
            z.axpy(length, &direction, 1.0);
            residual.axpy(-length, &product, 1.0);
            let next = residual.norm_squared();
            direction.axpy(1.0, &residual, next / square);
            square = next;
        }
        z.component_mul_assign(&roots);
        &self.vectors * z
    }
}

fn is_finite(row: &DVector<f32>) -> bool {
    row.iter().all(|value| value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::super::dense::pack;
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
    fn a_descent_comes_near_the_solution_from_anywhere_and_on_from_there() {
        for dim in [1, 7, 13, 64] {
            let rows: Vec<f32> = (0..300 * dim).map(number).collect();
            let side = Side::new(&rows, dim);
            let observations = observations(3 * dim, side.len());
            let (alpha, ridge) = (0.5, 2.0);
            let expected = side.solve_many(alpha, ridge, &observations).unwrap();
            // |z| of a row y.
            let norm = |y: &DVector<f32>| (alpha * y.dot(&(&side.gram * y)) + ridge * y.dot(y)).sqrt();
            for start in [0.0, 0.1, 3.0] {
                let mut row: Vec<f32> = (0..dim).map(|at| start * number(at)).collect();
                let mut before = f32::INFINITY;
                for _ in 0..4 {
                    side.improve(alpha, ridge, &observations, &mut row);
                    let error = DVector::from_column_slice(&row) - &expected;
                    let wrong = norm(&error) / norm(&expected);
                    assert!(wrong <= 1.01 * RESIDUAL, "d = {dim}, from {start}: {wrong}");
                    assert!(wrong <= before.max(1e-4), "d = {dim}, from {start}: {wrong} after {before}");
                    before = wrong;
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
        let mut row = [1.0, 1.0];
        side.improve(1.0, 0.0, &many, &mut row);
        assert_eq!(row, [0.0, 0.0]);
    }
}
