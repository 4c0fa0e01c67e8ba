//! The sweeps by themselves, without a search: for measuring how fast they are and what they find.

use super::ials::{Data, Factors};
use crate::event_log::EventLog;
use nearfield_engine::Hyperparameters;

/// Implicit ALS with given α0 and λ on all events of a log.
pub struct Sweeps {
    data: Data,
    factors: Factors,
    alpha: f32,
    lambda: f32,
}

impl Sweeps {
    /// Returns small pseudo-random item factors, `dim` of each, before the first sweep. Every person of the log has
    /// an event in it.
    pub fn new(log: &EventLog, dim: usize, alpha: f32, lambda: f32) -> Self {
        let data = Data::new(log, log.events.len(), &Hyperparameters::starting_point());
        let factors = Factors::new(&data, dim);
        Self { data, factors, alpha, lambda }
    }

    /// Solves all people, then all items.
    pub fn sweep(&mut self) {
        self.factors.sweep(&self.data, self.alpha, self.lambda);
    }

    /// Returns p·q of a person and an item, by their numbers in the log; `None` for an item without an event.
    pub fn score(&self, user: u32, item: u32) -> Option<f32> {
        let dim = self.factors.dim;
        let p = &self.factors.users[user as usize * dim..][..dim];
        let q = &self.factors.items[self.data.known_row(item)? as usize * dim..][..dim];
        Some(p.iter().zip(q).map(|(p, q)| p * q).sum())
    }
}
