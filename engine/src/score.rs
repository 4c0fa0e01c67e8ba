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
//! without a scan), and the listed features of [`crate::features`]. The dot product is an integer
//! one: u at 16 bits, q at 8, the sum in an `i32`; so it is the same in any order on any host.

use crate::features::Weights;
use crate::fold_in::quadratic_form;
use crate::ids::Row;
use crate::model::Model;

/// A person's side of the score, ready to rank any row.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// u at 16 bits.
    pub user: Vec<i16>,
    /// Turns an integer dot product, times the row's scale, into u·q.
    pub dot_scale: f32,
    /// Rows with a boost, each once, in rising order.
    pub boosts: Vec<(Row, f32)>,
    /// u, before it is quantised.
    vector: Vec<f32>,
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
            crate::fold_in::add_scaled(&mut self.vector, p, weight / spread);
        }
    }

    /// Quantises the user vector.
    pub(crate) fn settle(&mut self) {
        self.user.clear();
        self.user.resize(self.vector.len(), 0);
        self.dot_scale = 0.0;
        let largest = self.vector.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        if largest == 0.0 || !largest.is_finite() {
            return;
        }
        self.dot_scale = largest / 32767.0;
        for (user, value) in self.user.iter_mut().zip(&self.vector) {
            *user = libm::rintf(value / self.dot_scale) as i16;
        }
    }

    /// Lists a row with its features; rows come in rising order.
    pub(crate) fn list(&mut self, row: Row, weights: &Weights, features: &Weights) {
        self.boosts.push((row, crate::features::boost(weights, features)));
    }

    /// Calls `visit` with every row and its score, in rising order of rows.
    pub fn for_each(&self, model: &Model, priors: &[f32], mut visit: impl FnMut(Row, f32)) {
        let mut boosts = self.boosts.iter().peekable();
        for (row, dot) in dot_rows(&self.user, &model.factors).enumerate() {
            let boost =
                boosts.next_if(|(listed, _)| *listed as usize == row).map_or(0.0, |(_, boost)| *boost);
            visit(row as Row, dot as f32 * (self.dot_scale * model.scales[row]) + priors[row] + boost);
        }
    }
}

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

#[inline]
fn dot(user: &[i16], row: &[i8]) -> i32 {
    user.iter().zip(row).map(|(p, q)| i32::from(*p) * i32::from(i16::from(*q))).sum()
}
