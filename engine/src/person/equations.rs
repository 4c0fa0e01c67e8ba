//! The person's two systems of normal equations, in the basis of one model version.
//!
//! ```text
//! A₁ ← A₁ + w·q qᵀ     b₁ ← b₁ + w·t·q     h ← h + w     the history
//! A₂ ← ρA₂ + w·q qᵀ    b₂ ← ρb₂ + w·t·q                  the recent past
//! ```
//!
//! The sums are started anew whenever the history's length is a multiple of [`HISTORY_STEP`], which is also when
//! old events leave it, and grow by one event at a time from there. Equations made of a stored history take the
//! same steps, so they have the same bits as those that were kept between events.

use crate::ids::{Lineage, ModelVersion, Row};
use crate::limits::HISTORY_STEP;
use crate::model::Model;
use crate::person::history::{History, HistoryEntry};
use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use nearfield_kernels::algebra::{NormalEquations, power};

/// Weights of the recent system below this are left out when the sums are started anew.
const RECENCY_MIN: f32 = 1e-4;

/// Both systems, and what they were solved to.
#[derive(Clone, Debug)]
pub(super) struct Equations {
    lineage: Lineage,
    version: ModelVersion,
    pub(super) whole: NormalEquations,
    pub(super) recent: NormalEquations,
    /// Row of each history entry, as the model has it.
    pub(super) rows: VecDeque<Option<Row>>,
    /// Solutions since the last event: without recency, and with it.
    pub(super) solved: [Solved; 2],
    /// Room for one row or right side, d.
    pub(super) row: Vec<f32>,
}

/// A factor, where the equations have been solved since they changed.
#[derive(Clone, Debug, Default)]
pub(super) enum Solved {
    #[default]
    No,
    /// The solution, or that there is none.
    Yes(Option<Vec<f32>>),
}

impl Equations {
    /// Returns the equations of a history in the model's basis, rebuilt where they are in another.
    pub(super) fn current<'a>(slot: &'a mut Option<Self>, model: &Model, history: &History) -> &'a mut Self {
        let of_dim = |equations: &Self| equations.whole.b.len() == model.dim();
        let current = slot.as_ref().is_some_and(|held| {
            held.lineage == model.lineage && held.version == model.version && of_dim(held)
        });
        if !current {
            let mut equations = slot.take().filter(of_dim).unwrap_or_else(|| Self::new(model));
            equations.rebuild(model, history);
            *slot = Some(equations);
        }
        slot.as_mut().expect("made above where there were none")
    }

    fn new(model: &Model) -> Self {
        Self {
            lineage: model.lineage,
            version: model.version,
            whole: NormalEquations::new(model.dim()),
            recent: NormalEquations::new(model.dim()),
            rows: VecDeque::new(),
            solved: Default::default(),
            row: vec![0.0; model.dim()],
        }
    }

    fn rebuild(&mut self, model: &Model, history: &History) {
        self.lineage = model.lineage;
        self.version = model.version;
        self.solved = Default::default();
        self.whole.clear();
        self.recent.clear();
        self.rows.clear();
        let count = history.entries.len() / HISTORY_STEP * HISTORY_STEP;
        for (index, entry) in history.entries.iter().take(count).enumerate() {
            self.add(model, entry, power(model.hyper.recent_decay, count - 1 - index));
        }
        history.entries.iter().skip(count).for_each(|entry| self.add_newest(model, entry));
    }

    /// Takes in the newest event, which is in the history already.
    pub(super) fn append(&mut self, model: &Model, history: &History) {
        self.solved = Default::default();
        match history.entries.back() {
            Some(newest) if !history.entries.len().is_multiple_of(HISTORY_STEP) => {
                self.add_newest(model, newest)
            }
            _ => self.rebuild(model, history),
        }
    }

    fn add_newest(&mut self, model: &Model, newest: &HistoryEntry) {
        self.recent.scale(model.hyper.recent_decay);
        self.add(model, newest, 1.0);
    }

    fn add(&mut self, model: &Model, entry: &HistoryEntry, recency: f32) {
        let row = model.row(entry.key);
        self.rows.push_back(row);
        let Some(row) = row else { return };
        let weight = model.hyper.kind(entry.kind());
        self.row.resize(model.dim(), 0.0);
        model.dequantise(row, &mut self.row);
        self.whole.add(&self.row, weight.weight, weight.target);
        if recency > RECENCY_MIN {
            self.recent.add(&self.row, recency * weight.weight, weight.target);
        }
    }

    /// Returns the row of the newest item that the person wanted, as numbers; `None` where the model does not
    /// have the item.
    pub(super) fn newest_row(&mut self, model: &Model, history: &History) -> Option<&[f32]> {
        let newest_first = self.rows.iter().zip(&history.entries).rev();
        let mut wanted = newest_first.filter(|(_, entry)| model.hyper.is_target(entry.kind()));
        let row = (*wanted.next()?.0)?;
        self.row.resize(model.dim(), 0.0);
        model.dequantise(row, &mut self.row);
        Some(&self.row)
    }
}
