//! The score: a dot product with the item's row, a static prior of the item, boosts for a few
//! listed rows. Exact pruning rests on that form.
//!
//! ```text
//! s_i = β_f(m) · (p·q_i) / σ  +  β_p(m) · ln pop_i  +  β_t(m) · ln(1 + c·t_i)  +  β_r(m) · ln(1 + r_i)
//! σ²  = pᵀ G p / n − (p·q̄)²
//! ```
//!
//! with m the bucket of history length, p the recency-weighted factor, q̄ the mean row (so that σ
//! is the spread of p·q over the catalogue, without a scan), t the transitions' term, r the
//! person's own decayed count of the item. The dot product is an integer one: p at 16 bits, q at
//! 8, the sum in an `i32`; so it is the same in any order on any host.

use crate::fold_in::quadratic_form;
use crate::ids::Row;
use crate::model::Model;

/// A person's side of the score, ready to rank any row.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// p at 16 bits.
    pub user: Vec<i16>,
    /// Turns an integer dot product, times the row's scale, into β_f · (p·q) / σ.
    pub dot_scale: f32,
    /// β_p in units of a popularity step.
    pub prior_scale: f32,
    /// Rows with a boost, each once, in rising order.
    pub boosts: Vec<(Row, f32)>,
}

impl Query {
    /// Sets the factor part from p and its blend weight.
    pub(crate) fn set_factor(&mut self, model: &Model, p: &[f32], weight: f32) {
        self.user.clear();
        self.user.resize(model.dim, 0);
        self.dot_scale = 0.0;
        let largest = p.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        let spread = spread(model, p);
        if largest == 0.0 || spread <= 0.0 || weight == 0.0 {
            return;
        }
        let scale = largest / 32767.0;
        for (user, value) in self.user.iter_mut().zip(p) {
            *user = libm::rintf(value / scale) as i16;
        }
        self.dot_scale = weight * scale / spread;
    }

    /// Returns the score of one row; `boost` is what the row is listed with, else 0.
    #[inline]
    pub(crate) fn combine(&self, model: &Model, row: usize, dot: i32, boost: f32) -> f32 {
        let prior = self.prior_scale * f32::from(model.popularity[row]);
        dot as f32 * (self.dot_scale * model.scales[row]) + prior + boost
    }

    /// Calls `visit` with every row and its score, in rising order of rows.
    pub fn for_each(&self, model: &Model, mut visit: impl FnMut(Row, f32)) {
        let mut boosts = self.boosts.iter().peekable();
        for (row, dot) in dot_rows(&self.user, &model.factors).enumerate() {
            let boost =
                boosts.next_if(|(listed, _)| *listed as usize == row).map_or(0.0, |(_, boost)| *boost);
            visit(row as Row, self.combine(model, row, dot, boost));
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
