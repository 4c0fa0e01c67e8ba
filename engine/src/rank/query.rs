//! The score: a dot product with the item's row, a static prior of the item, boosts for a few
//! listed rows. Exact pruning rests on that form.
//!
//! ```text
//! s_i  = u·q_i + prior_i(m) + Σ_f β_f(m) x_fi                    the last sum over listed rows only
//! u    = Σ_v β_v(m) p_v / σ_v        σ_v² = p_vᵀ G p_v / n − (p_v·q̄)²
//! prior_i = Σ_H β_H(m) ln(1 + pop_i,H) + β_cold(m) [row i has no factor]
//! ```
//!
//! with m the bucket of history length, p_v the person's vectors (recency-weighted factor, plain
//! factor, newest item's row), q̄ the mean row (so that σ is the spread of p·q over the catalogue,
//! without a scan), and the listed features of [`crate::rank::features`]. The dot product is an integer
//! one: u at 16 bits, q at 8, the sum in an `i32`; so it is the same in any order on any host.

use crate::algebra::quadratic_form;
use crate::ids::Row;
use crate::model::Model;
use crate::rank::features::Weights;
use crate::rank::kernel::{BLOCK, Rows, User, dot, score_block};
use crate::rank::top_k::{RowSet, TopK};

/// A person's side of the score, ready to rank any row.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// u at 16 bits.
    pub user: Vec<i16>,
    /// Turns an integer dot product, times the row's scale, into u·q.
    pub dot_scale: f32,
    /// Rows with a boost, each once; in rising order once [`Query::sort`] was called.
    pub boosts: Vec<(Row, f32)>,
    /// u, before it is quantised.
    vector: Vec<f32>,
    /// Not below |u|, as quantised.
    norm: f32,
}

impl Query {
    /// Begins a new query without vectors and boosts.
    pub(crate) fn clear(&mut self, dim: usize) {
        self.vector.clear();
        self.vector.resize(dim, 0.0);
        self.boosts.clear();
    }

    /// Adds weight · p / σ to the user vector.
    pub(crate) fn add_vector(&mut self, model: &Model, p: &[f32], weight: f32) {
        if weight == 0.0 {
            return;
        }
        let spread = spread(model, p);
        if spread > 0.0 {
            crate::algebra::add_scaled(&mut self.vector, p, weight / spread);
        }
    }

    /// Quantises the user vector.
    pub(crate) fn settle(&mut self) {
        self.user.clear();
        self.user.resize(self.vector.len(), 0);
        self.dot_scale = 0.0;
        self.norm = 0.0;
        let largest = self.vector.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        if largest == 0.0 || !largest.is_finite() {
            return;
        }
        self.dot_scale = largest / 32767.0;
        for (user, value) in self.user.iter_mut().zip(&self.vector) {
            *user = libm::rintf(value / self.dot_scale) as i16;
        }
        let square: i64 = self.user.iter().map(|value| i64::from(*value) * i64::from(*value)).sum();
        self.norm = (libm::sqrt(square as f64) * f64::from(self.dot_scale)) as f32 * (1.0 + MARGIN);
    }

    /// Puts the listed rows in rising order.
    pub(crate) fn sort(&mut self) {
        self.boosts.sort_unstable_by_key(|(row, _)| *row);
    }

    /// Lists a row with its features.
    pub(crate) fn list(&mut self, row: Row, weights: &Weights, features: &Weights) {
        self.boosts.push((row, crate::rank::features::boost(weights, features)));
    }

    /// Calls `visit` with every row and its score, in rising order of rows; the listed ones are sorted.
    pub fn for_each(&self, model: &Model, priors: &[f32], mut visit: impl FnMut(Row, f32)) {
        let mut boosts = self.boosts.iter().peekable();
        for (row, dot) in dot_rows(&self.user, &model.factors).enumerate() {
            let score = dot as f32 * (self.dot_scale * model.scales[row]) + priors[row];
            let boost = boosts.next_if(|(listed, _)| *listed as usize == row);
            visit(row as Row, boost.map_or(score, |(_, boost)| score + boost));
        }
    }

    /// Returns the score of one row; `boost` is what its listing gives.
    fn score(&self, model: &Model, priors: &Priors, row: Row, boost: f32) -> f32 {
        let (factors, scale) = model.factors(row);
        dot(&self.user, factors) as f32 * (self.dot_scale * scale) + priors.values[row as usize] + boost
    }

    /// Offers the best rows of the whole catalogue to `top`; those of `barred` are left out.
    ///
    /// Rows with a boost and `likely` ones (those of the list before: a hint that costs little and
    /// changes nothing) are scored first and set a threshold. Then a block of rows is skipped where
    ///
    /// ```text
    /// |u| · max |q_i| + max prior_i  <  the k-th best score so far
    /// ```
    ///
    /// which no row of it can pass (Cauchy–Schwarz). Trained rows lie in falling order of norm, so
    /// few blocks are read; rows moved by merges only make the bound of their block less tight.
    pub(crate) fn rank(
        &self,
        model: &Model,
        priors: &Priors,
        likely: &[Row],
        barred: &mut RowSet,
        top: &mut TopK,
    ) {
        for (row, boost) in &self.boosts {
            if !model.withdrawn[*row as usize] && barred.insert(*row) {
                top.offer(*row, self.score(model, priors, *row, *boost));
            }
        }
        for row in likely {
            if barred.insert(*row) && !model.is_withdrawn(*row) {
                top.offer(*row, self.score(model, priors, *row, 0.0));
            }
        }
        let user = User { vector: &self.user, dot_scale: self.dot_scale };
        let mut scores = [0.0; BLOCK];
        let bounds = model.norms.iter().zip(&priors.largest);
        for (block, (norm, prior)) in bounds.enumerate() {
            let threshold = top.threshold();
            let bound = self.norm * norm + prior;
            if bound + MARGIN * prior.abs() < threshold {
                continue;
            }
            let first = block * BLOCK;
            let last = (first + BLOCK).min(model.len());
            let rows = Rows {
                factors: &model.factors[first * model.dim..last * model.dim],
                scales: &model.scales[first..last],
                priors: &priors.values[first..last],
            };
            if !score_block(user, rows, threshold, &mut scores) {
                continue;
            }
            for (row, score) in (first..last).zip(&scores) {
                if *score >= top.threshold() && !barred.contains(row as Row) && !model.withdrawn[row] {
                    top.offer(row as Row, *score);
                }
            }
        }
    }

    /// Offers the given rows to `top`, each once; those of `barred` are left out. The listed ones are sorted.
    pub(crate) fn rank_only(
        &self,
        model: &Model,
        priors: &Priors,
        rows: &[Row],
        barred: &mut RowSet,
        top: &mut TopK,
    ) {
        for row in rows.iter().copied().filter(|row| (*row as usize) < model.len()) {
            if !model.is_withdrawn(row) && barred.insert(row) {
                let listed = self.boosts.binary_search_by_key(&row, |(listed, _)| *listed);
                let boost = listed.map_or(0.0, |at| self.boosts[at].1);
                top.offer(row, self.score(model, priors, row, boost));
            }
        }
    }
}

/// Static priors of all rows, with the largest of each block.
#[derive(Clone, Debug)]
pub(crate) struct Priors {
    pub(crate) values: Vec<f32>,
    largest: Vec<f32>,
}

impl Priors {
    pub(crate) fn new(values: Vec<f32>) -> Self {
        let largest = |block: &[f32]| block.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        Self { largest: values.chunks(BLOCK).map(largest).collect(), values }
    }
}

/// Returns the largest norm of a block's rows, `rows` (row after row) with their `scales`.
pub(crate) fn largest_norm(rows: &[i8], scales: &[f32], dim: usize) -> f32 {
    let norm = |(row, scale): (&[i8], &f32)| {
        let square: i32 = row.iter().map(|q| i32::from(*q) * i32::from(*q)).sum();
        libm::sqrtf(square as f32) * scale * (1.0 + MARGIN)
    };
    rows.chunks_exact(dim).zip(scales).map(norm).fold(0.0, f32::max)
}

/// What bounds are raised by, so that no rounding (a few units of 2⁻²⁴) brings one below a score.
const MARGIN: f32 = 1e-5;

/// Returns σ, the standard deviation of p·q over the catalogue.
pub(crate) fn spread(model: &Model, p: &[f32]) -> f32 {
    if model.is_empty() {
        return 0.0;
    }
    let mean: f32 = p.iter().zip(&model.mean).fold(0.0, |sum, (p, q)| sum + p * q);
    let variance = quadratic_form(&model.gram, p) / model.len() as f32 - mean * mean;
    libm::sqrtf(variance.max(0.0))
}

/// Returns the integer dot product of `user` with each row of `factors`.
pub fn dot_rows<'a>(user: &'a [i16], factors: &'a [i8]) -> impl Iterator<Item = i32> + 'a {
    factors.chunks_exact(user.len().max(1)).map(move |row| dot(user, row))
}
