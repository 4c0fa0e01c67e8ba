//! The window: the deltas admitted since the last publish, as integer sums, so that they may come in
//! any order. Rows below the k-threshold wait here.
//!
//! ```text
//! A_i += w·p pᵀ    b_i += w·t·p    N_i += w      C += f·p pᵀ    m += f    T[a → b] += weight
//! ```

use crate::algebra::packed_len;
use crate::event::Kind;
use crate::ids::Row;
use crate::model::hyper::Hyperparameters;
use crate::sync::delta::{Delta, SHARE_STEPS};
use std::collections::{BTreeMap, BTreeSet};

/// Fixed point of p pᵀ and p: 2⁻²⁴. With weights in 2⁻⁸, a sum of 2²⁰ deltas at norm 4 stays below 2⁶³.
pub(super) const FACTOR_ONE: f64 = (1u64 << 24) as f64;
/// Fixed point of weights: 2⁻⁸.
pub(super) const WEIGHT_ONE: f64 = 256.0;
/// Fixed point of a delta's share.
pub(super) const SHARE_ONE: f64 = SHARE_STEPS as f64;
/// Fixed point of transitions: 2⁻¹⁶.
pub(super) const TRANSITION_ONE: f64 = 65_536.0;

/// Integer sums of one row in a window.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RowWindow {
    pub(super) a: Vec<i64>,
    pub(super) b: Vec<i64>,
    pub(super) n: i64,
    pub(super) popularity: i64,
    /// The part of `popularity` from events that start a session.
    pub(super) entries: i64,
    /// Transitions to other rows and from them.
    pub(super) neighbours: BTreeMap<Row, [i64; 2]>,
    pub(super) devices: BTreeSet<u64>,
    /// Devices counted in earlier windows, while the row waited.
    pub(super) devices_before: u32,
}

/// The deltas admitted since the last publish, as integer sums; rows below the k-threshold wait here.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Window {
    pub(super) rows: BTreeMap<Row, RowWindow>,
    pub(super) c: Vec<i64>,
    pub(super) m: i64,
    pub(super) merged: i64,
    pub(super) deltas: u64,
}

impl Window {
    /// Returns an empty window.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the deltas admitted since the last publish.
    pub fn deltas(&self) -> u64 {
        self.deltas
    }

    /// Returns whether nothing was admitted since the last publish.
    pub fn is_empty(&self) -> bool {
        self.deltas == 0
    }

    /// Adds a delta that [`crate::merge::Policy::check`] has passed to the sums. `device_tag` stands for
    /// the device within this window.
    pub fn admit(&mut self, hyper: &Hyperparameters, delta: &Delta, device_tag: u64) {
        let d = delta.factor.len();
        let scale = f64::from(delta.factor_scale);
        let square = scale * scale * FACTOR_ONE;
        let mut outer = Vec::with_capacity(packed_len(d));
        for (i, left) in delta.factor.iter().enumerate() {
            let left = i32::from(*left);
            outer.extend(
                delta.factor[..=i]
                    .iter()
                    .map(|right| libm::rint(f64::from(left * i32::from(*right)) * square) as i64),
            );
        }
        let line: Vec<i64> = delta
            .factor
            .iter()
            .map(|value| libm::rint(f64::from(*value) * scale * FACTOR_ONE) as i64)
            .collect();

        self.c.resize(packed_len(d), 0);
        let share = i64::from(delta.share);
        self.c.iter_mut().zip(&outer).for_each(|(sum, value)| *sum += share * value);
        self.m += share;
        self.deltas += 1;

        // Items of the current session, oldest first: transitions never cross a session's start.
        let mut session: Vec<Row> = Vec::new();
        for touch in &delta.items {
            let Some(kind) = Kind::from_index(touch.kind) else { continue };
            let weights = hyper.kind(kind);
            let weight = libm::rint(f64::from(weights.weight) * WEIGHT_ONE) as i64;
            let positive = libm::rint(f64::from(weights.weight * weights.target) * WEIGHT_ONE) as i64;
            let row = self.rows.entry(touch.row()).or_insert_with(|| RowWindow::new(d));
            row.a.iter_mut().zip(&outer).for_each(|(sum, value)| *sum += weight * value);
            row.b.iter_mut().zip(&line).for_each(|(sum, value)| *sum += positive * value);
            row.n += weight;
            row.popularity += positive;
            if touch.starts_session() {
                row.entries += positive;
            }
            row.devices.insert(device_tag);
            self.merged += weight;
            if touch.starts_session() {
                session.clear();
            }
            if positive == 0 {
                continue;
            }
            let mut proximity = 1.0;
            for leader in session.iter().rev().take(usize::from(hyper.transitions.reach)) {
                if *leader != touch.row() {
                    let pair = libm::rint(proximity * f64::from(weights.weight) * TRANSITION_ONE) as i64;
                    let row = self.rows.entry(*leader).or_insert_with(|| RowWindow::new(d));
                    row.neighbours.entry(touch.row()).or_default()[0] += pair;
                    let row = self.rows.entry(touch.row()).or_insert_with(|| RowWindow::new(d));
                    row.neighbours.entry(*leader).or_default()[1] += pair;
                }
                proximity *= f64::from(hyper.transitions.distance_decay);
            }
            session.push(touch.row());
        }
    }
}

impl RowWindow {
    fn new(d: usize) -> Self {
        Self {
            a: vec![0; packed_len(d)],
            b: vec![0; d],
            n: 0,
            popularity: 0,
            entries: 0,
            neighbours: BTreeMap::new(),
            devices: BTreeSet::new(),
            devices_before: 0,
        }
    }
}
