//! What leaves the device: a delta of the events that no delta holds yet, and the deltas that wait for
//! central's answer.

use crate::ids::DeltaId;
use crate::limits::{DELTA_EVENTS, DELTA_IDLE_MS, OUTBOX_MAX};
use crate::model::{Model, quantise};
use crate::person::UserState;
use crate::person::equations::Equations;
use crate::person::workspace::Workspace;
use crate::sync::delta::{Delta, SHARE_STEPS, Touch};
use crate::sync::wire::Outcome;
use serde::{Deserialize, Serialize};

/// Deltas that wait for an answer, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Outbox {
    pub(super) deltas: Vec<Delta>,
    /// Deltas given up because too many waited.
    dropped: u32,
}

impl Outbox {
    fn push(&mut self, delta: Delta) -> Option<&Delta> {
        if self.deltas.len() == OUTBOX_MAX {
            self.deltas.remove(0);
            self.dropped += 1;
        }
        self.deltas.push(delta);
        self.deltas.last()
    }
}

impl UserState {
    /// Returns the deltas that wait for an answer, oldest first.
    pub fn outbox(&self) -> &[Delta] {
        &self.stored.outbox.deltas
    }

    /// Returns how many events are in no delta yet.
    pub fn unsent(&self) -> usize {
        self.stored.history.unsent as usize
    }

    /// Returns whether a delta should go out: 20 new events, or a minute idle with something new.
    pub fn delta_due(&self, now_ms: u64) -> bool {
        let last = self.stored.history.entries.back();
        let idle = last.is_some_and(|last| now_ms.saturating_sub(last.time_ms) >= DELTA_IDLE_MS);
        self.unsent() >= DELTA_EVENTS || (self.unsent() > 0 && idle)
    }

    /// Moves what was learnt since the last delta into the outbox, under the given random id, and
    /// returns it; `None` where there is nothing that the model has rows for.
    pub fn take_delta(&mut self, model: &Model, id: DeltaId, workspace: &mut Workspace) -> Option<&Delta> {
        let (delta, covered) = self.build_delta(model, id, workspace)?;
        self.stored.history.unsent -= covered;
        self.stored.quality.unsent.clear();
        self.stored.outbox.push(delta)
    }

    /// Returns what [`UserState::take_delta`] would send now; its id is zero.
    pub fn preview_delta(&mut self, model: &Model, workspace: &mut Workspace) -> Option<Delta> {
        self.build_delta(model, DeltaId([0; 16]), workspace).map(|(delta, _)| delta)
    }

    /// Drops the events that are in no delta yet and the deltas that wait, so that none of it leaves
    /// the device: for a person who does not share. History and lists stay as they are.
    pub fn discard_unsent(&mut self) {
        self.stored.history.unsent = 0;
        self.stored.quality.unsent.clear();
        self.stored.outbox.deltas.clear();
    }

    /// Takes a delta out of the outbox once the server has answered. Every answer is final, a
    /// refusal too: its content is never sent again under another id.
    pub fn settle(&mut self, id: DeltaId, _outcome: &Outcome) {
        self.stored.outbox.deltas.retain(|delta| delta.id != id);
    }

    /// Builds the delta of the oldest unsent events, and says how many of them it covers.
    fn build_delta(&mut self, model: &Model, id: DeltaId, workspace: &mut Workspace) -> Option<(Delta, u32)> {
        let history = &self.stored.history;
        let equations = Equations::current(&mut self.equations, model, history);
        let bounds = model.hyper.bounds;
        let count = history.entries.len();
        let first = count - (history.unsent as usize).min(count);
        let mut items: Vec<Touch> = Vec::new();
        let mut weight = 0.0;
        let mut covered = 0;
        let mut starts_session = false;
        for (entry, row) in history.entries.iter().zip(&equations.rows).skip(first) {
            if items.len() == usize::from(bounds.items_max) {
                break;
            }
            covered += 1;
            starts_session |= entry.starts_session;
            let Some(row) = *row else { continue };
            if items.iter().filter(|item| item.row() == row).count() >= usize::from(bounds.repeats_max) {
                continue;
            }
            items.push(Touch::new(row, entry.kind, starts_session));
            starts_session = false;
            weight += model.hyper.kind(entry.kind()).weight;
        }
        let whole_weight = equations.whole.h;
        if items.is_empty() || weight == 0.0 {
            return None;
        }
        let mut factor = vec![0; model.dim];
        let p = equations.factor(model, false, &mut workspace.solver)?;
        let mut factor_scale = quantise(p, &mut factor);
        if factor_scale == 0.0 {
            // A factor of zero (an item without a row yet) still teaches transitions and popularity.
            factor_scale = f32::MIN_POSITIVE;
        }
        let share =
            libm::rintf(weight / whole_weight * f32::from(SHARE_STEPS)).clamp(1.0, f32::from(SHARE_STEPS));
        let delta = Delta {
            id,
            lineage: model.lineage,
            base_version: model.version,
            factor_scale,
            factor,
            items,
            share: share as u16,
            metrics: self.stored.quality.unsent.clone(),
        };
        Some((delta, covered))
    }
}
