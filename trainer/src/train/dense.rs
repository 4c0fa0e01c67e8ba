//! Dense sums and solves of the trainer: the mathematics of the engine's `algebra.rs`, laid out for
//! many rows at once.
//!
//! A matrix is the upper triangle of a `width` × `width` square by rows, `width` being d rounded up
//! to whole tiles. Work is done in tiles of 4 × 8 that stay in registers; each entry's sum runs in
//! the order of the observations, so a result does not depend on the number of threads.

use nearfield_engine::algebra::NormalEquations;

/// Rows of a tile.
const TILE_ROWS: usize = 4;

/// Columns of a tile.
const TILE_COLUMNS: usize = 8;

/// Observations that are summed before a tile is written back: with d = 64 they fill half of a
/// first-level cache of 32 KiB.
const BLOCK: usize = 64;

/// The normal equations of one row: M = start + Σ w x xᵀ and b = Σ w·t·x, and their solution.
/// Reused, so that a row allocates nothing.
pub(crate) struct System {
    dim: usize,
    width: usize,
    square: Vec<f32>,
    right: Vec<f32>,
    /// Observations that are not in `square` yet, at most [`BLOCK`].
    waiting: Vec<f32>,
    weights: Vec<f32>,
    /// h = Σ w.
    weight: f32,
}

impl System {
    /// Returns room for `dim` factors.
    pub(crate) fn new(dim: usize) -> Self {
        let width = padded(dim);
        Self {
            dim,
            width,
            square: vec![0.0; width * width],
            right: vec![0.0; width],
            waiting: Vec::with_capacity(BLOCK * width),
            weights: Vec::with_capacity(BLOCK),
            weight: 0.0,
        }
    }

    /// Begins a row with M = alpha · gram.
    pub(crate) fn begin(&mut self, alpha: f32, gram: &[f32]) {
        self.square.iter_mut().zip(gram).for_each(|(entry, gram)| *entry = alpha * gram);
        self.begin_sums();
    }

    /// Begins a row with M = 0.
    pub(crate) fn begin_empty(&mut self) {
        self.square.fill(0.0);
        self.begin_sums();
    }

    fn begin_sums(&mut self) {
        self.right.fill(0.0);
        self.waiting.clear();
        self.weights.clear();
        self.weight = 0.0;
    }

    /// Adds an observation of x with confidence w; `positive` is w·t.
    pub(crate) fn add(&mut self, x: &[f32], weight: f32, positive: f32) {
        self.waiting.extend_from_slice(x);
        self.waiting.resize((self.weights.len() + 1) * self.width, 0.0);
        self.weights.push(weight);
        self.weight += weight;
        self.right.iter_mut().zip(x).for_each(|(right, x)| *right += positive * x);
        if self.weights.len() == BLOCK {
            self.flush();
        }
    }

    fn flush(&mut self) {
        add_outer_products(&mut self.square, &self.waiting, &self.weights, self.width);
        self.waiting.clear();
        self.weights.clear();
    }

    /// Returns h = Σ w.
    pub(crate) fn weight(&self) -> f32 {
        self.weight
    }

    /// Solves (M + ridge·I) x = b and returns x, or `None` where the matrix is not positive definite.
    pub(crate) fn solve(&mut self, ridge: f32) -> Option<&[f32]> {
        self.flush();
        for k in 0..self.width {
            // Columns beyond d are zero; a one on the diagonal keeps them so.
            self.square[k * (self.width + 1)] += if k < self.dim { ridge } else { 1.0 };
        }
        solve(&mut self.square, &mut self.right).then_some(&self.right[..self.dim])
    }

    /// Returns the upper triangle of M, `width` squared.
    pub(crate) fn square(&mut self) -> &[f32] {
        self.flush();
        &self.square
    }

    /// Returns the sums as the engine keeps them.
    pub(crate) fn take_equations(&mut self) -> NormalEquations {
        self.flush();
        let b = self.right[..self.dim].to_vec();
        NormalEquations { a: pack(&self.square, self.dim), b, h: self.weight }
    }
}

/// Returns the lower triangle by rows, which by symmetry is the upper one by columns.
pub(crate) fn pack(square: &[f32], dim: usize) -> Vec<f32> {
    let width = padded(dim);
    (0..dim).flat_map(|i| (0..=i).map(move |j| square[j * width + i])).collect()
}

/// Returns the width of rows that hold `dim` numbers.
fn padded(dim: usize) -> usize {
    dim.next_multiple_of(TILE_COLUMNS)
}

/// Adds Σ weight · x xᵀ over the rows of `x` (rows × width) to the upper triangle `into`.
fn add_outer_products(into: &mut [f32], x: &[f32], weights: &[f32], width: usize) {
    for i in (0..width).step_by(TILE_ROWS) {
        for j in (i / TILE_COLUMNS * TILE_COLUMNS..width).step_by(TILE_COLUMNS) {
            let mut tile = [[0.0f32; TILE_COLUMNS]; TILE_ROWS];
            for (x, weight) in x.chunks_exact(width).zip(weights) {
                let left: &[f32; TILE_ROWS] = x[i..i + TILE_ROWS].try_into().expect("four numbers");
                let right: &[f32; TILE_COLUMNS] = x[j..j + TILE_COLUMNS].try_into().expect("eight numbers");
                for (sums, left) in tile.iter_mut().zip(left) {
                    let left = weight * left;
                    for (sum, right) in sums.iter_mut().zip(right) {
                        *sum += left * right;
                    }
                }
            }
            for (row, sums) in tile.iter().enumerate() {
                let entries = &mut into[(i + row) * width + j..][..TILE_COLUMNS];
                entries.iter_mut().zip(sums).for_each(|(entry, sum)| *entry += sum);
            }
        }
    }
}

/// Solves M x = b in place of `b`, destroying M (its upper triangle), by Cholesky's M = UᵀU; returns
/// whether M was positive definite.
fn solve(m: &mut [f32], b: &mut [f32]) -> bool {
    let width = b.len();
    for i in (0..width).step_by(TILE_ROWS) {
        let (done, rest) = m.split_at_mut(i * width);
        let rows = &mut rest[..TILE_ROWS * width];
        for j in (i / TILE_COLUMNS * TILE_COLUMNS..width).step_by(TILE_COLUMNS) {
            let mut tile = [[0.0f32; TILE_COLUMNS]; TILE_ROWS];
            for u in done.chunks_exact(width) {
                let left: &[f32; TILE_ROWS] = u[i..i + TILE_ROWS].try_into().expect("four numbers");
                let right: &[f32; TILE_COLUMNS] = u[j..j + TILE_COLUMNS].try_into().expect("eight numbers");
                for (sums, left) in tile.iter_mut().zip(left) {
                    for (sum, right) in sums.iter_mut().zip(right) {
                        *sum += left * right;
                    }
                }
            }
            for (row, sums) in rows.chunks_exact_mut(width).zip(&tile) {
                row[j..j + TILE_COLUMNS].iter_mut().zip(sums).for_each(|(entry, sum)| *entry -= sum);
            }
        }
        for k in 0..TILE_ROWS {
            let (row, below) = rows[k * width..].split_at_mut(width);
            let pivot = row[i + k];
            if pivot.is_nan() || pivot <= 0.0 {
                return false;
            }
            let scale = 1.0 / pivot.sqrt();
            row[i + k..].iter_mut().for_each(|entry| *entry *= scale);
            for (lower, next) in below.chunks_exact_mut(width).zip(i + k + 1..) {
                let left = row[next];
                lower[next..].iter_mut().zip(&row[next..]).for_each(|(entry, right)| *entry -= left * right);
            }
        }
    }
    for k in 0..width {
        let row = &m[k * width..][..width];
        b[k] /= row[k];
        let value = b[k];
        b[k + 1..].iter_mut().zip(&row[k + 1..]).for_each(|(b, u)| *b -= value * u);
    }
    for k in (0..width).rev() {
        let row = &m[k * width..][..width];
        b[k] = (b[k] - inner(&row[k + 1..], &b[k + 1..])) / row[k];
    }
    b.iter().all(|value| value.is_finite())
}

/// Returns x·y, in eight interleaved sums.
pub(crate) fn inner(x: &[f32], y: &[f32]) -> f32 {
    let mut sums = [0.0f32; TILE_COLUMNS];
    let (x, x_rest) = x.as_chunks::<TILE_COLUMNS>();
    let (y, y_rest) = y.as_chunks::<TILE_COLUMNS>();
    for (x, y) in x.iter().zip(y) {
        for ((sum, x), y) in sums.iter_mut().zip(x).zip(y) {
            *sum += x * y;
        }
    }
    let rest: f32 = x_rest.iter().zip(y_rest).map(|(x, y)| x * y).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearfield_engine::algebra::Solver;

    /// Numbers between -1 and 1 that follow no pattern.
    fn number(index: usize) -> f32 {
        ((index as f32 + 1.0) * 12.9898).sin()
    }

    #[test]
    fn a_row_is_solved_as_the_fold_in_solves_it() {
        // Neither d nor the number of observations fits the tiles.
        for (dim, observations) in [(1, 3), (7, 70), (13, 129), (64, 200)] {
            let gram = System::new(dim).take_equations().a;
            let (mut system, mut sums) = (System::new(dim), NormalEquations::new(dim));
            system.begin_empty();
            for at in 0..observations {
                let x: Vec<f32> = (0..dim).map(|k| number(at * dim + k)).collect();
                let (weight, target) = (1.0 + (at % 3) as f32, if at % 5 == 0 { 0.0 } else { 1.0 });
                system.add(&x, weight, weight * target);
                sums.add(&x, weight, target);
            }
            let found = system.take_equations();
            assert_eq!(found.h, sums.h);
            let close = |a: &f32, b: &f32| (a - b).abs() <= 1e-4 * b.abs().max(1.0);
            assert!(found.a.iter().zip(&sums.a).all(|(a, b)| close(a, b)), "A differs at d = {dim}");
            assert!(found.b.iter().zip(&sums.b).all(|(a, b)| close(a, b)), "b differs at d = {dim}");
            let mut solver = Solver::new(dim);
            let expected = solver.solve(&[(0.5, &gram), (1.0, &sums.a)], 2.0, &sums.b).unwrap();
            let x = system.solve(2.0).unwrap();
            assert_eq!(x.len(), dim);
            assert!(x.iter().zip(expected).all(|(a, b)| close(a, b)), "{x:?} is not {expected:?}");
        }
    }

    #[test]
    fn an_indefinite_system_gives_none_and_the_room_stays_usable() {
        let mut system = System::new(2);
        system.begin_empty();
        system.add(&[1.0, 0.0], -1.0, 1.0);
        assert!(system.solve(0.5).is_none());
        system.begin_empty();
        system.add(&[1.0, 2.0], 1.0, 4.0);
        let x = system.solve(1.0).unwrap();
        // [[2, 2], [2, 5]] x = (4, 8).
        assert!((x[0] - 2.0 / 3.0).abs() < 1e-5 && (x[1] - 4.0 / 3.0).abs() < 1e-5, "{x:?}");
    }
}
