//! What leaves the device: a delta of the events that no delta holds yet, and the deltas that wait for
//! central's answer.

use crate::ids::{DeltaId, ModelVersion, Row};
use crate::limits::{DELTA_EVENTS, DELTA_IDLE_MS, OUTBOX_MAX};
use crate::model::{Model, quantise};
use crate::person::UserState;
use crate::person::equations::Equations;
use crate::person::history::{History, Progress};
use crate::person::quality::clipped;
use crate::person::workspace::Workspace;
use crate::sync::delta::{Delta, SHARE_STEPS, Touch};
use crate::sync::wire::Outcome;
use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
#[cfg(target_arch = "wasm32")]
use nearfield_kernels::float::Float as _;
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

    /// Returns how many events happened since the last delta was made.
    pub fn unsent(&self) -> usize {
        self.stored.history.entries.iter().filter(|entry| entry.progress == Progress::Unsent).count()
    }

    /// Returns whether a delta should go out: 20 new events, or a minute idle with something new.
    pub fn delta_due(&self, now_ms: u64) -> bool {
        let last = self.stored.history.entries.back();
        let idle = last.is_some_and(|last| now_ms.saturating_sub(last.time_ms) >= DELTA_IDLE_MS);
        self.unsent() >= DELTA_EVENTS || (self.unsent() > 0 && idle)
    }

    /// Moves what was learnt since the last delta into the outbox, under the given random id, and
    /// returns it; `None` where there is nothing that the model has rows for.
    ///
    /// Events on items without a row wait in the history. Once a version has brought the row, they go first,
    /// in a delta of their own for each session.
    ///
    /// Call it when the delta can be sent: it names the version of `model`, and the server accepts a version
    /// for a limited time.
    pub fn take_delta(&mut self, model: &Model, id: DeltaId, workspace: &mut Workspace) -> Option<&Delta> {
        self.take_delta_again(model, id, model.version, workspace)
    }

    /// As [`UserState::take_delta`], for a delta that may have been sent under this id before. The server
    /// remembers an id with the version that the delta named: so it must name that version again.
    pub fn take_delta_again(
        &mut self,
        model: &Model,
        id: DeltaId,
        base_version: ModelVersion,
        workspace: &mut Workspace,
    ) -> Option<&Delta> {
        let (delta, progress) = self.build_delta(model, id, workspace);
        for (index, progress) in progress {
            self.stored.history.entries[index].progress = progress;
        }
        let delta = Delta { base_version, ..delta? };
        self.stored.quality.unsent.clear();
        self.stored.outbox.push(delta)
    }

    /// Returns what [`UserState::take_delta`] would send now; its id is zero.
    pub fn preview_delta(&mut self, model: &Model, workspace: &mut Workspace) -> Option<Delta> {
        self.build_delta(model, DeltaId([0; 16]), workspace).0
    }

    /// Drops the events that are in no delta yet and the deltas that wait, so that none of it leaves
    /// the device: for a person who does not share. History and lists stay as they are.
    pub fn discard_unsent(&mut self) {
        self.stored.history.entries.iter_mut().for_each(|entry| entry.progress = Progress::Done);
        self.stored.quality.unsent.clear();
        self.stored.outbox.deltas.clear();
    }

    /// Takes a delta out of the outbox once the server has answered. Every answer is final, a
    /// refusal too: its content is never sent again under another id.
    pub fn settle(&mut self, id: DeltaId, _outcome: &Outcome) {
        self.stored.outbox.deltas.retain(|delta| delta.id != id);
    }

    /// Builds the delta of the events that go next, and says how far that brings each event it meets.
    fn build_delta(
        &mut self,
        model: &Model,
        id: DeltaId,
        workspace: &mut Workspace,
    ) -> (Option<Delta>, Vec<(usize, Progress)>) {
        let history = &self.stored.history;
        let equations = Equations::current(&mut self.equations, model, history);
        let Selection { items, weight, progress } = select(model, history, &equations.rows);
        if items.is_empty() {
            return (None, progress);
        }
        let whole_weight = equations.whole.h;
        // Without a solution nothing moves: the same events are tried again.
        let Some(p) = equations.factor(model, false, &mut workspace.solver) else {
            return (None, Vec::new());
        };
        let mut factor = vec![0; model.dim()];
        let mut factor_scale = quantise(p, &mut factor);
        if factor_scale == 0.0 {
            // A factor of zero (an item without a row yet) still teaches transitions and popularity.
            factor_scale = f32::MIN_POSITIVE;
        }
        let share = f32::round_ties_even(weight / whole_weight * f32::from(SHARE_STEPS))
            .clamp(1.0, f32::from(SHARE_STEPS));
        let delta = Delta {
            id,
            lineage: model.lineage,
            base_version: model.version,
            factor_scale,
            factor,
            items,
            share: share as u16,
            metrics: clipped(&self.stored.quality.unsent),
        };
        (Some(delta), progress)
    }
}

/// The events that go next.
#[derive(Default)]
struct Selection {
    items: Vec<Touch>,
    /// Sum of their confidences.
    weight: f32,
    /// How far the next delta brings each event that it meets, by index in the history.
    progress: Vec<(usize, Progress)>,
}

/// Chooses the events of the next delta, oldest first: those of one session that have waited for a row and
/// now have it; where there are none, those that happened since the last delta.
fn select(model: &Model, history: &History, rows: &VecDeque<Option<Row>>) -> Selection {
    let bounds = model.hyper.bounds;
    let entries = &history.entries;
    let ready = entries
        .iter()
        .zip(rows)
        .position(|(entry, row)| entry.progress == Progress::Waiting && row.is_some());
    // Two that waited in one session may have followed one another; in different sessions they did not.
    let (takes, range) = ready.map_or((Progress::Unsent, 0..entries.len()), |first| {
        let next_session = entries.iter().skip(first + 1).position(|entry| entry.starts_session);
        (Progress::Waiting, first..next_session.map_or(entries.len(), |at| first + 1 + at))
    });
    let mut selection = Selection::default();
    let mut starts_session = false;
    for index in range {
        if selection.items.len() == usize::from(bounds.items_max) {
            break;
        }
        let entry = &entries[index];
        if entry.progress != takes {
            continue;
        }
        starts_session |= entry.starts_session;
        let Some(row) = rows[index] else {
            selection.progress.push((index, Progress::Waiting));
            // What goes without this event follows it, so a session must still be seen to start; what
            // follows it later, alone, has nothing before it.
            starts_session &= takes == Progress::Unsent;
            continue;
        };
        selection.progress.push((index, Progress::Done));
        let weight = model.hyper.kind(entry.kind()).weight;
        let mentions = selection.items.iter().filter(|item| item.row() == row).count();
        if weight == 0.0 || mentions >= usize::from(bounds.repeats_max) {
            continue;
        }
        selection.items.push(Touch::new(row, entry.kind, starts_session));
        selection.weight += weight;
        starts_session = false;
    }
    selection
}
