//! Sweeps of alternating least squares, in parallel over rows; the result does not depend on the
//! number of threads.

use super::dense::{System, pack};
use crate::event_log::EventLog;
use nearfield_engine::algebra::NormalEquations;
use nearfield_engine::ids::Row;
use nearfield_engine::model::hyper::Hyperparameters;
use rayon::prelude::*;
use std::collections::HashMap;

/// The training events by person and by item: (other side, Σ w, Σ w·t).
pub(crate) struct Data {
    by_user: Vec<Vec<(u32, f32, f32)>>,
    by_item: Vec<Vec<(u32, f32, f32)>>,
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

    /// Returns each item's sums over the people as they are.
    pub(crate) fn item_equations(&self, data: &Data) -> Vec<NormalEquations> {
        let sums = data.by_item.par_iter().map_init(
            || System::new(self.dim),
            |system, entries| {
                if entries.is_empty() {
                    return NormalEquations::default();
                }
                system.begin_empty();
                observe(system, entries, &self.users, self.dim);
                system.take_equations()
            },
        );
        sums.collect()
    }

    /// Returns C = Σ p pᵀ and the number of people.
    pub(crate) fn user_gram(&self) -> (Vec<f64>, f64) {
        let gram = pack(&gram(&self.users, self.dim), self.dim);
        (gram.into_iter().map(f64::from).collect(), (self.users.len() / self.dim) as f64)
    }
}

/// Returns Σ x xᵀ over rows, as a [`System`] begins with it: partial sums of fixed blocks, added in
/// order.
pub(crate) fn gram(rows: &[f32], dim: usize) -> Vec<f32> {
    let blocks: Vec<Vec<f32>> = rows
        .par_chunks(1024 * dim)
        .map(|block| {
            let mut system = System::new(dim);
            block.chunks_exact(dim).for_each(|row| system.add(row, 1.0, 0.0));
            system.square().to_vec()
        })
        .collect();
    let mut total = System::new(dim).square().to_vec();
    for block in blocks {
        total.iter_mut().zip(block).for_each(|(total, part)| *total += part);
    }
    total
}

fn observe(system: &mut System, entries: &[(u32, f32, f32)], other: &[f32], dim: usize) {
    for (index, weight, positive) in entries {
        system.add(&other[*index as usize * dim..][..dim], *weight, *positive);
    }
}

fn solve_side(
    entries: &[Vec<(u32, f32, f32)>],
    other: &[f32],
    own: &mut [f32],
    dim: usize,
    alpha: f32,
    lambda: f32,
) {
    let gram = gram(other, dim);
    let all = alpha * (other.len() / dim) as f32;
    own.par_chunks_mut(dim).zip(entries).for_each_init(
        || System::new(dim),
        |system, (own, entries)| {
            system.begin(alpha, &gram);
            observe(system, entries, other, dim);
            match system.solve(lambda * (system.weight() + all)) {
                Some(x) => own.copy_from_slice(x),
                None => own.fill(0.0),
            }
        },
    );
}
