//! The score: a dot product with the item's row, a static prior of the item, boosts for a few
//! candidate rows. Exact pruning rests on that form.
//!
//! ```text
//! s_i  = u·q_i + prior_i(m) + Σ_f β_f(m) x_fi              the last sum over the candidates only
//! u    = Σ_v β_v(m) p_v / σ_v        σ_v² = p_vᵀ G p_v / n − (p_v·q̄)²
//! prior_i = Σ_H β_H(m) ln(1 + pop_i,H) + β_cold(m) [row i has no factor]
//! ```
//!
//! with m the bucket of history length, p_v the person's vectors (recency-weighted factor, plain
//! factor, newest item's row), q̄ the mean row (so that σ is the spread of p·q over the catalogue,
//! without a scan), and the candidates' features of [`crate::rank::features`]. The dot product is an
//! integer one: u at 16 bits, q at 8, the sum in an `i32`; so it is the same in any order on any host.

use crate::ids::Row;
use crate::model::Model;
use crate::model::bounds::{MARGIN, STOPS};
use alloc::vec::Vec;
use nearfield_kernels::algebra::{add_scaled, quadratic_form};
use nearfield_kernels::by_row::ByRow;
#[cfg(target_arch = "wasm32")]
use nearfield_kernels::float::Float as _;
use nearfield_kernels::kernel::Pair;

/// A person's side of the score, ready to rank any row.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    /// u at 16 bits.
    pub(crate) user: Vec<Pair>,
    /// Turns an integer dot product, times the row's scale, into u·q.
    pub(crate) dot_scale: f32,
    /// One over it, infinite where it is 0.
    pub(crate) one_over_dot_scale: f32,
    /// Candidates with their boosts, each row once, in rising order of rows.
    pub(crate) boosts: Vec<(Row, f32)>,
    /// An upper bound of |u|, as quantised.
    pub(crate) norm: f32,
    /// The same of what is left of u after each of [`STOPS`].
    pub(crate) tails: [f32; STOPS.len()],
    /// u, before it is quantised.
    vector: Vec<f32>,
    by_row: ByRow,
}

impl Query {
    /// Begins a new query without vectors and boosts.
    pub(crate) fn clear(&mut self, dim: usize) {
        self.vector.clear();
        self.vector.resize(dim, 0.0);
        self.boosts.clear();
    }

    /// Brings the boosts into the order of their rows.
    pub(crate) fn sort_boosts(&mut self) {
        self.by_row.sort(&mut self.boosts);
    }

    /// Adds weight · p / σ to the user vector.
    pub(crate) fn add_vector(&mut self, model: &Model, p: &[f32], weight: f32) {
        let scale = scale(model, p, weight);
        if scale != 0.0 {
            add_scaled(&mut self.vector, p, scale);
        }
    }

    /// Quantises the user vector.
    pub(crate) fn quantise(&mut self) {
        self.user.clear();
        self.user.resize(self.vector.len().div_ceil(2), [0; 2]);
        self.dot_scale = 0.0;
        self.one_over_dot_scale = f32::INFINITY;
        self.norm = 0.0;
        self.tails = [0.0; STOPS.len()];
        let largest = self.vector.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        if largest == 0.0 || !largest.is_finite() {
            return;
        }
        self.dot_scale = largest / 32767.0;
        self.one_over_dot_scale = 1.0 / self.dot_scale;
        for (user, value) in self.user.as_flattened_mut().iter_mut().zip(&self.vector) {
            *user = f32::round_ties_even(value / self.dot_scale) as i16;
        }
        let norm = |pairs: &[Pair]| {
            let numbers = pairs.as_flattened().iter();
            let square: i64 = numbers.map(|value| i64::from(*value) * i64::from(*value)).sum();
            (f64::sqrt(square as f64) * f64::from(self.dot_scale)) as f32 * (1.0 + MARGIN)
        };
        self.norm = norm(&self.user);
        self.tails = STOPS.map(|stop| norm(self.user.get(stop..).unwrap_or_default()));
    }
}

/// Returns weight / σ, by which a vector enters the score; 0 where it tells no items apart.
pub(crate) fn scale(model: &Model, p: &[f32], weight: f32) -> f32 {
    if weight == 0.0 {
        return 0.0;
    }
    match spread(model, p) {
        spread if spread > 0.0 => weight / spread,
        _ => 0.0,
    }
}

/// Returns σ, the standard deviation of p·q over the catalogue.
fn spread(model: &Model, p: &[f32]) -> f32 {
    if model.is_empty() {
        return 0.0;
    }
    let mean: f32 = p.iter().zip(model.mean()).fold(0.0, |sum, (p, q)| sum + p * q);
    let variance = quadratic_form(model.gram(), p) / model.len() as f32 - mean * mean;
    f32::sqrt(variance.max(0.0))
}
