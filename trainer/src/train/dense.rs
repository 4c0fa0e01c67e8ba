//! Dense sums of the trainer, and its eigenvectors by nalgebra.
//!
//! Sums run in the order of the rows and of fixed blocks, so that a result does not depend on the number of threads.

use nalgebra::linalg::SymmetricEigen;
use nalgebra::{DMatrix, DVectorView};
use rayon::prelude::*;

/// Rows of a block that is summed by one thread.
const BLOCK: usize = 1024;

/// An observation: the index of a row of the other side, Σ w, Σ w·t.
pub(crate) type Observation = (u32, f32, f32);

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
pub(crate) fn add_squares<'a>(square: &mut [f32], rows: impl Iterator<Item = (&'a [f32], f32)>) {
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

/// Adds f·x over the rows x that were met; f comes of (x·v, Σ w, Σ w·t).
pub(crate) fn add_rows(
    rows: &[f32],
    observations: &[Observation],
    v: &[f32],
    sum: &mut [f32],
    factor: impl Fn(f32, f32, f32) -> f32,
) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        #[expect(unsafe_code, reason = "a call into code for a processor that was just found")]
        // SAFETY: the processor has AVX2.
        return unsafe { add_rows_avx2(rows, observations, v, sum, factor) };
    }
    add_rows_of(rows, observations, v, sum, factor);
}

/// As [`add_squares_avx2`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn add_rows_avx2(
    rows: &[f32],
    observations: &[Observation],
    v: &[f32],
    sum: &mut [f32],
    factor: impl Fn(f32, f32, f32) -> f32,
) {
    add_rows_of(rows, observations, v, sum, factor);
}

#[inline(always)]
fn add_rows_of(
    rows: &[f32],
    observations: &[Observation],
    v: &[f32],
    sum: &mut [f32],
    factor: impl Fn(f32, f32, f32) -> f32,
) {
    let dim = v.len();
    let scaled = |(index, weight, positive): &Observation| {
        let x = &rows[*index as usize * dim..][..dim];
        (factor(dot(x, v), *weight, *positive), x)
    };
    let (fours, rest) = observations.as_chunks::<AT_ONCE>();
    for [a, b, c, e] in fours {
        let ((fa, a), (fb, b), (fc, c), (fe, e)) = (scaled(a), scaled(b), scaled(c), scaled(e));
        for ((((sum, a), b), c), e) in sum.iter_mut().zip(a).zip(b).zip(c).zip(e) {
            *sum += fa * a + fb * b + fc * c + fe * e;
        }
    }
    for observation in rest {
        let (factor, x) = scaled(observation);
        sum.iter_mut().zip(x).for_each(|(sum, x)| *sum += factor * x);
    }
}

/// Returns x·v, summed in lanes.
#[inline(always)]
fn dot(x: &[f32], v: &[f32]) -> f32 {
    let mut sums = [0.0; LANES];
    let ((x, x_rest), (v, v_rest)) = (x.as_chunks::<LANES>(), v.as_chunks::<LANES>());
    for (x, v) in x.iter().zip(v) {
        for (lane, sum) in sums.iter_mut().enumerate() {
            *sum += x[lane] * v[lane];
        }
    }
    let rest: f32 = x_rest.iter().zip(v_rest).map(|(x, v)| x * v).sum();
    sums.iter().sum::<f32>() + rest
}

/// Returns the lower triangle by rows.
pub(crate) fn pack(square: &DMatrix<f32>) -> Vec<f32> {
    (0..square.nrows()).flat_map(|i| (0..=i).map(move |j| square[(i, j)])).collect()
}

/// Returns x·y.
pub(crate) fn inner(x: &[f32], y: &[f32]) -> f32 {
    DVectorView::from_slice(x, x.len()).dot(&DVectorView::from_slice(y, y.len()))
}
