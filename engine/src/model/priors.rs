//! What is derived from the rest of the model, once: the static prior of every row, and the largest prior of every
//! block of rows.

use crate::model::blend::{BUCKETS, COLD, POPULARITY, STATIC, Scenario, Weights};
use crate::model::bounds::MARGIN;
use crate::model::popularity::HALF_LIVES;
use crate::once::Once;
use alloc::vec::Vec;
use nearfield_kernels::BLOCK;

/// Caches of a model, empty until they are first asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Derived {
    /// Mean of ln(1 + pop) over the catalogue, one a half-life.
    pub(crate) popularity_mean: Once<[f32; HALF_LIVES]>,
    /// Static priors of all rows, by scenario and bucket.
    pub(crate) priors: [[Once<Priors>; BUCKETS]; Scenario::ALL.len()],
}

impl Derived {
    /// Returns for which lists priors have been asked for.
    pub(crate) fn in_use(&self) -> Vec<(Scenario, usize)> {
        let all =
            Scenario::ALL.into_iter().flat_map(|scenario| (0..BUCKETS).map(move |bucket| (scenario, bucket)));
        all.filter(|(scenario, bucket)| self.priors[*scenario as usize][*bucket].get().is_some()).collect()
    }
}

impl PartialEq for Derived {
    /// Caches add nothing to a model, so they cannot tell two models apart.
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

/// Static priors of all rows, with the largest of each block, raised by [`MARGIN`].
#[derive(Clone, Debug)]
pub(crate) struct Priors {
    pub(crate) values: Vec<f32>,
    pub(crate) largest: Vec<f32>,
}

impl Priors {
    pub(crate) fn new(values: Vec<f32>) -> Self {
        let largest = |block: &[f32]| {
            let largest = block.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            largest + MARGIN * largest.abs()
        };
        Self { largest: values.chunks(BLOCK).map(largest).collect(), values }
    }
}

/// Returns the static prior of one row: Σ_H β_H ln(1 + pop_H) + β_cold · cold.
pub(crate) fn prior(weights: &Weights, popularity: &[f32; HALF_LIVES], cold: f32) -> f32 {
    let weights = &weights[STATIC];
    let parts = weights.iter().zip(popularity);
    let prior = parts.fold(0.0, |sum, (weight, value)| sum + weight * value);
    prior + weights[COLD - POPULARITY] * cold
}
