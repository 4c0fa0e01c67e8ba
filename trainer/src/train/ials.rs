//! Sweeps of alternating least squares, in parallel over rows; the result does not depend on the
//! number of threads.

use super::dense::{Observation, eigenvectors, gram, inner, pack, rotate};
use super::solve::Side;
use crate::event_log::EventLog;
use nearfield_engine::algebra::NormalEquations;
use nearfield_engine::ids::Row;
use nearfield_engine::model::hyper::Hyperparameters;
use rayon::prelude::*;
use std::collections::HashMap;

/// The training events by person and by item: (other side, Σ w, Σ w·t).
pub(crate) struct Data {
    by_user: Vec<Vec<Observation>>,
    by_item: Vec<Vec<Observation>>,
    /// Items of the log by row, in order of first appearance.
    pub(crate) items: Vec<u32>,
    rows: HashMap<u32, Row>,
}

impl Data {
    pub(crate) fn new(log: &EventLog, until: usize, hyper: &Hyperparameters) -> Self {
        let mut data =
            Self { by_user: Vec::new(), by_item: Vec::new(), items: Vec::new(), rows: HashMap::new() };
        let mut users: HashMap<u32, u32> = HashMap::new();
        let mut pairs: HashMap<(u32, Row), usize> = HashMap::new();
        for event in &log.events[..until] {
            let next = data.items.len() as Row;
            let row = *data.rows.entry(event.item).or_insert(next);
            if row == next {
                data.items.push(event.item);
                data.by_item.push(Vec::new());
            }
            let weights = hyper.kind(event.kind);
            if !event.kind.is_history() || weights.weight == 0.0 {
                continue;
            }
            let next = data.by_user.len() as u32;
            let user = *users.entry(event.user).or_insert(next);
            if user == next {
                data.by_user.push(Vec::new());
            }
            let entries = &mut data.by_user[user as usize];
            let index = *pairs.entry((user, row)).or_insert_with(|| {
                entries.push((row, 0.0, 0.0));
                entries.len() - 1
            });
            entries[index].1 += weights.weight;
            entries[index].2 += weights.weight * weights.target;
        }
        for (user, entries) in data.by_user.iter().enumerate() {
            for (row, weight, positive) in entries {
                data.by_item[*row as usize].push((user as u32, *weight, *positive));
            }
        }
        data
    }

    /// Returns the row of an item that occurs in the training events.
    pub(crate) fn row(&self, item: u32) -> Row {
        self.rows[&item]
    }

    /// Returns the row of any item of the log, if it occurs in the training events.
    pub(crate) fn known_row(&self, item: u32) -> Option<Row> {
        self.rows.get(&item).copied()
    }
}

/// Both sides' factors, row after row.
#[derive(Clone)]
pub(crate) struct Factors {
    pub(crate) dim: usize,
    pub(crate) users: Vec<f32>,
    pub(crate) items: Vec<f32>,
}

impl Factors {
    /// Returns small fixed pseudo-random item factors and no user factors yet.
    pub(crate) fn new(data: &Data, dim: usize) -> Self {
        let scale = 0.1 / (dim as f32).sqrt();
        let items = (0..data.items.len() * dim)
            .map(|index| ((super::hash(index as u64 + 1) >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * scale);
        Self { dim, users: vec![0.0; data.by_user.len() * dim], items: items.collect() }
    }

    /// Solves all people, then all items. The people are then half a sweep behind: the next sweep, or
    /// [`Factors::solve_users`], brings them up to the items.
    pub(crate) fn sweep(&mut self, data: &Data, alpha: f32, lambda: f32) {
        self.solve_users(data, alpha, lambda);
        solve_side(&data.by_item, &self.users, &mut self.items, self.dim, alpha, lambda);
    }

    /// Solves all people against the items as they are.
    pub(crate) fn solve_users(&mut self, data: &Data, alpha: f32, lambda: f32) {
        solve_side(&data.by_user, &self.items, &mut self.users, self.dim, alpha, lambda);
    }

    /// Solves some items against the people as they are.
    pub(crate) fn solve_items(&mut self, data: &Data, rows: &[usize], alpha: f32, lambda: f32) {
        let (dim, all) = (self.dim, alpha * data.by_user.len() as f32);
        let people = Side::new(&self.users, dim);
        for row in rows {
            let observations = &data.by_item[*row];
            let weight: f32 = observations.iter().map(|(_, weight, _)| weight).sum();
            let own = &mut self.items[row * dim..][..dim];
            people.improve(alpha, lambda * (weight + all), observations, own);
        }
    }

    /// Returns what the sweeps make smaller, by pair of a person and an item:
    ///
    /// ```text
    /// (Σ_ui w (t − p_u·q_i)² + α0 Σ_all (p_u·q_i)² + λ Σ_u (h_u + α0 n)|p_u|² + λ Σ_i (N_i + α0 m)|q_i|²) / pairs
    /// ```
    pub(crate) fn loss(&self, data: &Data, alpha: f32, lambda: f32) -> f64 {
        let dim = self.dim;
        let pairs: usize = data.by_user.iter().map(Vec::len).sum();
        let errors = data.by_user.par_iter().zip(self.users.par_chunks(dim)).map(|(entries, p)| {
            let error = |(row, weight, positive): &Observation| {
                let score = f64::from(inner(p, &self.items[*row as usize * dim..][..dim]));
                // Targets are 0 or 1, so that Σ w·t² = Σ w·t.
                f64::from(*weight) * score * score + f64::from(*positive) * (1.0 - 2.0 * score)
            };
            entries.iter().map(error).sum::<f64>()
        });
        let errors: Vec<f64> = errors.collect();
        let unseen = f64::from(gram(&self.users, dim).dot(&gram(&self.items, dim)));
        let ridge = |entries: &[Vec<Observation>], rows: &[f32], others: usize| {
            let all = f64::from(alpha) * others as f64;
            let norms = entries.iter().zip(rows.chunks_exact(dim)).map(|(entries, row)| {
                let weight: f32 = entries.iter().map(|(_, weight, _)| weight).sum();
                (f64::from(weight) + all) * f64::from(inner(row, row))
            });
            norms.sum::<f64>()
        };
        let ridges = ridge(&data.by_user, &self.users, data.by_item.len())
            + ridge(&data.by_item, &self.items, data.by_user.len());
        let sum = errors.iter().sum::<f64>() + f64::from(alpha) * unseen + f64::from(lambda) * ridges;
        sum / pairs.max(1) as f64
    }

    /// Returns each item's sums over the people as they are.
    pub(crate) fn item_equations(&self, data: &Data) -> Vec<NormalEquations> {
        let sums = data.by_item.par_iter().map(|observations| {
            if observations.is_empty() {
                return NormalEquations::default();
            }
            let mut equations = NormalEquations::new(self.dim);
            for (index, weight, positive) in observations {
                let p = &self.users[*index as usize * self.dim..][..self.dim];
                equations.add(p, *weight, positive / weight);
            }
            equations
        });
        sums.collect()
    }

    /// Returns the same factors in the basis of the eigenvectors of the items' Gram matrix, the largest first. No
    /// product p·q changes, and the first numbers of a row say most of it: ranking can leave off after them.
    pub(crate) fn in_eigenbasis(&self) -> Self {
        let vectors = eigenvectors(&gram(&self.items, self.dim));
        let rotated = |rows: &[f32]| {
            let mut out = vec![0.0; rows.len()];
            rotate(rows, &vectors, &mut out);
            out
        };
        Self { dim: self.dim, users: rotated(&self.users), items: rotated(&self.items) }
    }

    /// Returns C = Σ p pᵀ and the number of people.
    pub(crate) fn user_gram(&self) -> (Vec<f64>, f64) {
        let gram = pack(&gram(&self.users, self.dim));
        (gram.into_iter().map(f64::from).collect(), (self.users.len() / self.dim) as f64)
    }
}

fn solve_side(
    observations: &[Vec<Observation>],
    other: &[f32],
    own: &mut [f32],
    dim: usize,
    alpha: f32,
    lambda: f32,
) {
    let other = Side::new(other, dim);
    let all = alpha * other.len() as f32;
    own.par_chunks_mut(dim).zip(observations).for_each(|(own, observations)| {
        let weight: f32 = observations.iter().map(|(_, weight, _)| weight).sum();
        other.improve(alpha, lambda * (weight + all), observations, own);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// People of two tastes, who each lack some items of theirs.
    fn data() -> Data {
        let mut text = String::from("user,item\n");
        for person in 0..40 {
            for item in (0..24).filter(|item| item % 2 == person % 2 && (item * 7 + person) % 5 != 0) {
                text.push_str(&format!("u{person},i{item}\n"));
            }
        }
        let log = EventLog::read_csv(text.as_bytes()).unwrap();
        Data::new(&log, log.events.len(), &Hyperparameters::starting_point())
    }

    #[test]
    fn every_half_of_a_sweep_lowers_the_loss() {
        let data = data();
        let (alpha, lambda) = (0.1, 0.01);
        let mut factors = Factors::new(&data, 6);
        factors.solve_users(&data, alpha, lambda);
        let mut before = factors.loss(&data, alpha, lambda);
        for half in 0..12 {
            if half % 2 == 0 {
                solve_side(&data.by_item, &factors.users, &mut factors.items, 6, alpha, lambda);
            } else {
                factors.solve_users(&data, alpha, lambda);
            }
            let after = factors.loss(&data, alpha, lambda);
            assert!(after <= before * (1.0 + 1e-6), "half {half}: {after} after {before}");
            before = after;
        }
    }

    #[test]
    fn the_loss_is_the_sum_that_its_formula_says() {
        let data = data();
        let (alpha, lambda) = (0.3, 0.02);
        let mut factors = Factors::new(&data, 5);
        factors.sweep(&data, alpha, lambda);
        let row = |rows: &[f32], at: usize| rows[at * 5..][..5].to_vec();
        let (people, items) = (data.by_user.len(), data.by_item.len());
        let (mut sum, mut pairs) = (0.0, 0);
        for person in 0..people {
            let p = row(&factors.users, person);
            let weight: f32 = data.by_user[person].iter().map(|(_, weight, _)| weight).sum();
            sum += f64::from(lambda * (weight + alpha * items as f32) * inner(&p, &p));
            for item in 0..items {
                let score = inner(&p, &row(&factors.items, item));
                sum += f64::from(alpha * score * score);
                if let Some((_, weight, _)) =
                    data.by_user[person].iter().find(|(row, ..)| *row == item as u32)
                {
                    pairs += 1;
                    sum += f64::from(weight * (1.0 - score) * (1.0 - score));
                }
            }
        }
        for item in 0..items {
            let q = row(&factors.items, item);
            let weight: f32 = data.by_item[item].iter().map(|(_, weight, _)| weight).sum();
            sum += f64::from(lambda * (weight + alpha * people as f32) * inner(&q, &q));
        }
        let (found, expected) = (factors.loss(&data, alpha, lambda), sum / f64::from(pairs));
        assert!((found - expected).abs() < 1e-5 * expected, "{found} is not {expected}");
    }
}
