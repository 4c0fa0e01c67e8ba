//! One person's state: history, normal equations, outbox, and the quality that the person saw.
//!
//! Kept are the last 512 events by item key. All else is derived from them and the model: the two
//! systems of normal equations are updated with each event and rebuilt when a new version arrives.

use crate::algebra::{NormalEquations, Solver};
use crate::error::{EventError, StateError};
use crate::event::{Event, Kind};
use crate::ids::{DeltaId, ItemKey, Lineage, ModelVersion, Row, short_hash};
use crate::model::hyper::{Scenario, bucket};
use crate::model::{Model, quantise};
use crate::rank::features::{self, Listing, Seen};
use crate::rank::query::Query;
use crate::rank::top_k::{COUNT_MAX, Request, RowSet, Scored, TopK};
use crate::sync::delta::{DELTA_EVENTS, DELTA_IDLE_MS, Delta, RANK_BINS, SHARE_STEPS, Touch, VersionMetrics};
use crate::sync::wire::Outcome;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Events of history kept.
pub const HISTORY_MAX: usize = 512;

/// A gap that ends a sitting where events name none, in milliseconds (30 minutes, as GA4).
pub const SITTING_GAP_MS: u64 = 30 * 60 * 1000;

/// Deltas that wait in the outbox at most; past that the oldest is given up.
pub const OUTBOX_MAX: usize = 64;

/// Events after which the kept sums are rebuilt, so that rounding does not add up.
const REBUILD_EVERY: u32 = 128;

const MAGIC: [u8; 4] = *b"NFUS";
const SCHEMA: u16 = 1;

/// One event of the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// The item.
    pub key: ItemKey,
    /// What happened, as an index of [`Kind::ALL`].
    kind: u8,
    /// When, in milliseconds since 1970-01-01 UTC. Never leaves the device.
    pub time_ms: u64,
    /// Whether a sitting begins here.
    pub begins_sitting: bool,
    /// Hash of the event id, 0 for none.
    event_hash: u64,
}

impl HistoryEntry {
    /// Returns what happened.
    pub fn kind(&self) -> Kind {
        Kind::from_index(self.kind).unwrap_or(Kind::View)
    }
}

/// What [`UserState::learn`] did with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learned {
    /// It is part of the history now.
    Applied,
    /// Its event id is in the history already; nothing changed.
    Duplicate,
    /// An impression or a search: nothing to learn from.
    ContextOnly,
}

/// Choices by the rank that the item had in the list shown just before: 1, 2–5, 6–10, 11–20, beyond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RankBins {
    /// Counts by bin.
    pub bins: [u32; RANK_BINS],
}

impl RankBins {
    /// Returns the bin of a place in the list (0 is first), `None` being not in the first 20.
    fn bin(place: Option<usize>) -> usize {
        match place {
            Some(0) => 0,
            Some(1..=4) => 1,
            Some(5..=9) => 2,
            Some(10..=19) => 3,
            _ => 4,
        }
    }

    /// Returns the choices counted.
    pub fn total(&self) -> u32 {
        self.bins.iter().sum()
    }
}

/// What is stored; everything else is derived.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Kept {
    history: VecDeque<HistoryEntry>,
    /// How many of the newest entries no delta has told of yet.
    unsent: u32,
    session_hash: u64,
    outbox: Vec<Delta>,
    outbox_dropped: u32,
    quality: RankBins,
    unsent_quality: Vec<VersionMetrics>,
}

/// The person's equations in the basis of one model version.
#[derive(Clone, Debug)]
struct Basis {
    lineage: Lineage,
    version: ModelVersion,
    whole: NormalEquations,
    recent: NormalEquations,
    /// Row of each history entry, as the model has it.
    rows: VecDeque<Option<Row>>,
    since_rebuild: u32,
    /// What the equations were solved to since the last event: with recency, and without.
    solved: [Solved; 2],
}

/// A factor, where the equations have been solved since they changed.
#[derive(Clone, Debug, Default)]
enum Solved {
    #[default]
    No,
    Yes(Option<Vec<f32>>),
}

/// The recency-weighted factor, the plain factor, the newest item's row.
type Vectors = [Option<Vec<f32>>; 3];

/// One person's state.
///
/// ```
/// use nearfield_engine::{Event, Kind, Request, UserState, golden};
/// let model = golden::model();
/// let mut person = UserState::new();
/// person.learn(&model, &Event::new(Kind::Click, "item-3", 1_000), 1_000)?;
/// let list = person.recommend(&model, &Request { count: 5, ..Request::default() });
/// assert_eq!(list.len(), 5);
/// assert!(list.iter().all(|item| model.item_id(item.row) != "item-3"), "what was seen is left out");
/// # Ok::<(), nearfield_engine::EventError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct UserState {
    kept: Kept,
    basis: Option<Basis>,
    solver: Option<Solver>,
    /// Rows of the list shown last, until the next choice.
    shown: Vec<Row>,
    /// Rows of the last list, of this model or the one before: where to look first.
    likely: Vec<Row>,
    query: Query,
    barred: RowSet,
    top: TopK,
    listing: Listing,
    row: Vec<f32>,
}

impl UserState {
    /// Returns the state of a person of whom nothing is known.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the number of events kept.
    pub fn len(&self) -> usize {
        self.kept.history.len()
    }

    /// Returns whether nothing is known of the person.
    pub fn is_empty(&self) -> bool {
        self.kept.history.is_empty()
    }

    /// Returns the history, oldest first.
    pub fn history(&self) -> impl DoubleEndedIterator<Item = &HistoryEntry> + ExactSizeIterator {
        self.kept.history.iter()
    }

    /// Returns the deltas that wait for an answer, oldest first.
    pub fn outbox(&self) -> &[Delta] {
        &self.kept.outbox
    }

    /// Returns how often the person chose what had been listed, and at which rank.
    pub fn quality(&self) -> &RankBins {
        &self.kept.quality
    }

    /// Returns how many events no delta has told of yet.
    pub fn unsent(&self) -> usize {
        self.kept.unsent as usize
    }

    /// Learns from one event: history, both systems of equations, and the rank that the item had
    /// in the list shown just before.
    ///
    /// # Errors
    /// [`EventError`] names the field; nothing is changed.
    pub fn learn(&mut self, model: &Model, event: &Event, now_ms: u64) -> Result<Learned, EventError> {
        event.check(now_ms)?;
        if !event.kind.is_history() {
            return Ok(Learned::ContextOnly);
        }
        let event_hash = event.event_id.as_ref().map_or(0, |id| short_hash(id.as_bytes()).max(1));
        if event_hash != 0 && self.kept.history.iter().any(|entry| entry.event_hash == event_hash) {
            return Ok(Learned::Duplicate);
        }
        let key = ItemKey::of(&event.item_id);
        let session_hash = event.session_id.as_ref().map_or(0, |id| short_hash(id.as_bytes()).max(1));
        let begins_sitting = self.kept.history.back().is_none_or(|last| {
            if session_hash != 0 || self.kept.session_hash != 0 {
                session_hash != self.kept.session_hash
            } else {
                gap_ends_sitting(last, event)
            }
        });
        let entry =
            HistoryEntry { key, kind: event.kind as u8, time_ms: event.time_ms, begins_sitting, event_hash };

        self.settle_basis(model);
        self.count_choice(model, key, event.kind);
        self.kept.session_hash = session_hash;
        self.kept.history.push_back(entry);
        self.kept.unsent = (self.kept.unsent + 1).min(HISTORY_MAX as u32);
        self.append(model, entry);
        if self.kept.history.len() > HISTORY_MAX
            && let Some(oldest) = self.kept.history.pop_front()
        {
            self.forget(model, oldest);
        }
        Ok(Learned::Applied)
    }

    /// Returns the best items of the whole catalogue for this person, best first.
    ///
    /// The list is remembered as the one shown: the next choice is counted by its rank in it.
    pub fn recommend(&mut self, model: &Model, request: &Request) -> Vec<Scored> {
        let mut list = Vec::new();
        self.recommend_into(model, request, &mut list);
        list
    }

    /// As [`UserState::recommend`], into a list that is used again and again.
    pub fn recommend_into(&mut self, model: &Model, request: &Request, list: &mut Vec<Scored>) {
        self.settle_basis(model);
        let bucket = bucket(self.kept.history.len());
        self.prepare(model, request.scenario, bucket);
        self.barred.reset(model.len());
        let seen = self.basis.iter().flat_map(|basis| basis.rows.iter().flatten());
        let seen = seen.filter(|_| request.scenario == Scenario::Discover);
        for row in request.deny.iter().chain(seen) {
            self.barred.insert(*row);
        }
        self.top.reset(request.count.min(COUNT_MAX) as usize);
        let priors = model.priors(request.scenario, bucket);
        match &request.allow {
            Some(allow) => {
                self.query.sort();
                self.query.rank_only(model, priors, allow, &mut self.barred, &mut self.top);
            }
            None => self.query.rank(model, priors, &self.likely, &mut self.barred, &mut self.top),
        }
        list.clear();
        list.extend_from_slice(self.top.as_sorted());
        self.shown.clear();
        self.shown.extend(list.iter().take(20).map(|item| item.row));
        if request.count > 0 {
            self.likely.clear();
            self.likely.extend_from_slice(&self.shown);
        }
    }

    /// Learns from an event and ranks the whole catalogue again, in one call.
    ///
    /// # Errors
    /// [`EventError`] names the field; nothing is changed, the list neither.
    pub fn observe(
        &mut self,
        model: &Model,
        event: &Event,
        now_ms: u64,
        request: &Request,
        list: &mut Vec<Scored>,
    ) -> Result<Learned, EventError> {
        let learned = self.learn(model, event, now_ms)?;
        self.recommend_into(model, request, list);
        Ok(learned)
    }

    /// Writes the score of every row into `out`, for evaluation; nothing is filtered.
    pub fn scores(&mut self, model: &Model, scenario: Scenario, out: &mut Vec<f32>) {
        self.settle_basis(model);
        let bucket = bucket(self.kept.history.len());
        self.prepare(model, scenario, bucket);
        self.query.sort();
        out.clear();
        self.query.for_each(model, &model.priors(scenario, bucket).values, |_, score| out.push(score));
    }

    /// Returns whether a delta should go out: 20 new events, or a minute idle with something new.
    pub fn delta_due(&self, now_ms: u64) -> bool {
        let idle =
            self.kept.history.back().is_some_and(|last| now_ms.saturating_sub(last.time_ms) >= DELTA_IDLE_MS);
        self.kept.unsent as usize >= DELTA_EVENTS || (self.kept.unsent > 0 && idle)
    }

    /// Moves what was learnt since the last delta into the outbox, under the given random id, and
    /// returns it; `None` where there is nothing that the model has rows for.
    pub fn take_delta(&mut self, model: &Model, id: DeltaId) -> Option<&Delta> {
        let (delta, told) = self.build_delta(model, id)?;
        self.kept.unsent -= told;
        self.kept.unsent_quality.clear();
        if self.kept.outbox.len() == OUTBOX_MAX {
            self.kept.outbox.remove(0);
            self.kept.outbox_dropped += 1;
        }
        self.kept.outbox.push(delta);
        self.kept.outbox.last()
    }

    /// Returns what [`UserState::take_delta`] would send now; its id is zero.
    pub fn preview_delta(&mut self, model: &Model) -> Option<Delta> {
        self.build_delta(model, DeltaId([0; 16])).map(|(delta, _)| delta)
    }

    /// Drops what no delta has told of and what waits in the outbox, so that it never leaves the
    /// device: for a person who does not share. History and lists stay as they are.
    pub fn discard_unsent(&mut self) {
        self.kept.unsent = 0;
        self.kept.unsent_quality.clear();
        self.kept.outbox.clear();
    }

    /// Takes a delta out of the outbox once the server has answered. Every answer is final, a
    /// refusal too: its content is never sent again under another id.
    pub fn settle(&mut self, id: DeltaId, _outcome: &Outcome) {
        self.kept.outbox.retain(|delta| delta.id != id);
    }

    /// Returns the state as bytes, for the device's own storage.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(SCHEMA.to_le_bytes());
        postcard::to_extend(&self.kept, bytes).expect("a state has no type that postcard refuses")
    }

    /// Restores a state. Its lists are those of the state before, on the same model.
    ///
    /// # Errors
    /// [`StateError`] for bytes of another kind, of a newer schema, or damaged ones.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, StateError> {
        let body = bytes.strip_prefix(&MAGIC).ok_or(StateError::Foreign)?;
        let (schema, body) =
            body.split_first_chunk::<2>().ok_or(StateError::Damaged { what: "no schema" })?;
        let found = u16::from_le_bytes(*schema);
        if found != SCHEMA {
            return Err(StateError::NewerSchema { found, known: SCHEMA });
        }
        let (kept, rest): (Kept, _) =
            postcard::take_from_bytes(body).map_err(|_| StateError::Damaged { what: "cut off" })?;
        let sound = rest.is_empty()
            && kept.history.len() <= HISTORY_MAX
            && kept.unsent as usize <= kept.history.len()
            && kept.outbox.len() <= OUTBOX_MAX
            && kept.history.iter().all(|entry| Kind::from_index(entry.kind).is_some_and(Kind::is_history));
        if !sound {
            return Err(StateError::Damaged { what: "a count is out of range" });
        }
        Ok(Self { kept, ..Self::default() })
    }

    /// Drops what can be derived again from history and model: a state at rest is a few kilobytes.
    pub fn rest(&mut self) {
        self.basis = None;
        self.solver = None;
        self.likely = Vec::new();
    }

    /// Takes an event into the history that the trained model has learned already, so that no
    /// delta tells of it again.
    pub fn remember(&mut self, event: &Event) {
        if !event.kind.is_history() {
            return;
        }
        let begins_sitting = self.kept.history.back().is_none_or(|last| gap_ends_sitting(last, event));
        let key = ItemKey::of(&event.item_id);
        let kind = event.kind as u8;
        let entry = HistoryEntry { key, kind, time_ms: event.time_ms, begins_sitting, event_hash: 0 };
        self.kept.history.push_back(entry);
        if self.kept.history.len() > HISTORY_MAX {
            self.kept.history.pop_front();
        }
        self.basis = None;
    }

    /// Counts the rank of a chosen item in the list shown last.
    fn count_choice(&mut self, model: &Model, key: ItemKey, kind: Kind) {
        if self.shown.is_empty() || model.hyper.kind(kind).target == 0.0 {
            return;
        }
        let row = model.row(key);
        let bin = RankBins::bin(self.shown.iter().position(|shown| Some(*shown) == row));
        self.shown.clear();
        self.kept.quality.bins[bin] += 1;
        let metrics = &mut self.kept.unsent_quality;
        if metrics.last().is_none_or(|last| last.version != model.version) {
            if metrics.len() == crate::merge::METRICS_MAX {
                metrics.remove(0);
            }
            metrics.push(VersionMetrics { version: model.version, bins: [0; RANK_BINS] });
        }
        if let Some(last) = metrics.last_mut() {
            last.bins[bin] = last.bins[bin].saturating_add(1);
        }
    }

    /// Brings the equations into the model's basis, if they are in another.
    fn settle_basis(&mut self, model: &Model) {
        let current = self.basis.as_ref().is_some_and(|basis| {
            basis.lineage == model.lineage
                && basis.version == model.version
                && basis.whole.b.len() == model.dim
        });
        if !current {
            self.rebuild(model);
        }
    }

    fn rebuild(&mut self, model: &Model) {
        let mut basis =
            self.basis.take().filter(|basis| basis.whole.b.len() == model.dim).unwrap_or_else(|| Basis {
                lineage: model.lineage,
                version: model.version,
                whole: NormalEquations::new(model.dim),
                recent: NormalEquations::new(model.dim),
                rows: VecDeque::new(),
                since_rebuild: 0,
                solved: Default::default(),
            });
        basis.lineage = model.lineage;
        basis.version = model.version;
        basis.since_rebuild = 0;
        basis.solved = Default::default();
        basis.whole.clear();
        basis.recent.clear();
        basis.rows.clear();
        self.row.resize(model.dim, 0.0);
        let count = self.kept.history.len();
        for (index, entry) in self.kept.history.iter().enumerate() {
            let row = model.row(entry.key);
            basis.rows.push_back(row);
            let Some(row) = row else { continue };
            let weight = model.hyper.kind(entry.kind());
            model.dequantise(row, &mut self.row);
            basis.whole.add(&self.row, weight.weight, weight.target);
            let age = (count - 1 - index) as f32;
            let share = libm::powf(model.hyper.recent_decay, age);
            if share > RECENT_SHARE_MIN {
                basis.recent.add(&self.row, share * weight.weight, weight.target);
            }
        }
        self.basis = Some(basis);
    }

    /// Adds the newest history entry to the equations.
    fn append(&mut self, model: &Model, entry: HistoryEntry) {
        let Some(basis) = &mut self.basis else { return };
        basis.since_rebuild += 1;
        basis.solved = Default::default();
        if basis.since_rebuild >= REBUILD_EVERY {
            return self.rebuild(model);
        }
        let row = model.row(entry.key);
        basis.rows.push_back(row);
        basis.recent.scale(model.hyper.recent_decay);
        if let Some(row) = row {
            let weight = model.hyper.kind(entry.kind());
            self.row.resize(model.dim, 0.0);
            model.dequantise(row, &mut self.row);
            basis.whole.add(&self.row, weight.weight, weight.target);
            basis.recent.add(&self.row, weight.weight, weight.target);
        }
    }

    /// Subtracts what left the ring. The recent system has long forgotten it.
    fn forget(&mut self, model: &Model, oldest: HistoryEntry) {
        let Some(basis) = &mut self.basis else { return };
        basis.solved = Default::default();
        if let Some(row) = basis.rows.pop_front().flatten() {
            let weight = model.hyper.kind(oldest.kind());
            model.dequantise(row, &mut self.row);
            basis.whole.add(&self.row, -weight.weight, weight.target);
        }
    }

    /// Returns the factor with recency (κ > 0) or without; `None` where there is nothing to solve.
    fn factor(&mut self, model: &Model, recency: bool) -> Option<&[f32]> {
        let basis = self.basis.as_mut()?;
        let solved = &mut basis.solved[usize::from(recency)];
        if matches!(solved, Solved::No) {
            let hyper = &model.hyper;
            let recent_weight = if recency { hyper.recent_weight } else { 0.0 };
            let solver = self.solver.get_or_insert_with(|| Solver::new(model.dim));
            self.row.clear();
            self.row.extend_from_slice(&basis.whole.b);
            let ridge = hyper.lambda * (basis.whole.h + hyper.alpha * model.len() as f32);
            let parts: &[(f32, &[f32])] =
                &[(hyper.alpha, &model.gram), (1.0, &basis.whole.a), (recent_weight, &basis.recent.a)];
            let used = if recent_weight == 0.0 { 2 } else { 3 };
            if used == 3 {
                crate::algebra::add_scaled(&mut self.row, &basis.recent.b, recent_weight);
            }
            let p = (basis.whole.h != 0.0).then(|| solver.solve(&parts[..used], ridge, &self.row)).flatten();
            *solved = Solved::Yes(p.map(<[f32]>::to_vec));
        }
        match solved {
            Solved::Yes(p) => p.as_deref(),
            Solved::No => None,
        }
    }

    /// Returns the person's vectors that the score weighs: the recency-weighted factor, the plain
    /// factor, the newest item's row; `None` where there is none.
    fn vectors(&mut self, model: &Model) -> Vectors {
        let recent = self.factor(model, true).map(<[f32]>::to_vec);
        let whole = self.factor(model, false).map(<[f32]>::to_vec);
        let last = self.newest_row(model).then(|| self.row.clone());
        [recent, whole, last]
    }

    /// Reads the newest item's row into `self.row`, and says whether there is one.
    fn newest_row(&mut self, model: &Model) -> bool {
        let newest = self.basis.as_ref().and_then(|basis| basis.rows.back().copied().flatten());
        let Some(row) = newest else { return false };
        self.row.resize(model.dim, 0.0);
        model.dequantise(row, &mut self.row);
        true
    }

    /// Builds the query of the current state.
    fn prepare(&mut self, model: &Model, scenario: Scenario, bucket: usize) {
        let weights = model.hyper.blend.weights(scenario, bucket);
        let mut query = std::mem::take(&mut self.query);
        query.clear(model.dim);
        for (feature, recency) in [(features::FACTOR_RECENT, true), (features::FACTOR_WHOLE, false)] {
            if weights[feature] != 0.0
                && let Some(p) = self.factor(model, recency)
            {
                query.add_vector(model, p, weights[feature]);
            }
        }
        if weights[features::FACTOR_LAST] != 0.0 && self.newest_row(model) {
            query.add_vector(model, &self.row, weights[features::FACTOR_LAST]);
        }
        query.settle();
        self.query = query;
        self.list(model, scenario == Scenario::Continue);
        for (row, features) in self.listing.rows(model) {
            self.query.list(row, weights, &features);
        }
    }

    /// Reads the history into the listing.
    fn list(&mut self, model: &Model, own: bool) {
        let mut listing = std::mem::take(&mut self.listing);
        let nothing = VecDeque::new();
        let rows = self.basis.as_ref().map_or(&nothing, |basis| &basis.rows);
        let mut in_sitting = true;
        let mut next_ms = None;
        let history =
            rows.iter().zip(&self.kept.history).rev().enumerate().filter_map(|(place, (row, entry))| {
                let stay = next_ms.map_or(0.0, |next: u64| {
                    next.saturating_sub(entry.time_ms).min(120_000) as f32 / 120_000.0
                });
                next_ms = Some(entry.time_ms);
                let seen = row.filter(|_| model.hyper.kind(entry.kind()).target > 0.0).map(|row| Seen {
                    row,
                    place,
                    in_sitting,
                    stay,
                });
                in_sitting &= !entry.begins_sitting;
                seen
            });
        listing.read(model, history, own);
        self.listing = listing;
    }

    /// Returns all that the trainer weighs: the person's vectors, and the listed rows with their
    /// features, the own ones among them.
    pub fn features(&mut self, model: &Model) -> (Vectors, Vec<(Row, features::Weights)>) {
        self.settle_basis(model);
        let vectors = self.vectors(model);
        self.list(model, true);
        let mut rows: Vec<_> = self.listing.rows(model).collect();
        rows.sort_unstable_by_key(|(row, _)| *row);
        (vectors, rows)
    }

    /// Writes the plain factor's score of every row into `out` (κ = 0, no blend): what the factors
    /// alone know, for protocols whose data have no order in time.
    pub fn factor_scores(&mut self, model: &Model, out: &mut Vec<f32>) {
        self.settle_basis(model);
        out.clear();
        factor_scores(model, self.factor(model, false).unwrap_or(&[]), out);
    }

    /// Builds the delta of the oldest untold events, and says how many of them it settles.
    fn build_delta(&mut self, model: &Model, id: DeltaId) -> Option<(Delta, u32)> {
        self.settle_basis(model);
        let bounds = model.hyper.bounds;
        let count = self.kept.history.len();
        let untold = count - (self.kept.unsent as usize).min(count);
        let basis = self.basis.as_ref()?;
        let mut items: Vec<Touch> = Vec::new();
        let mut weight = 0.0;
        let mut told = 0;
        let mut begins = false;
        for (entry, row) in self.kept.history.iter().zip(&basis.rows).skip(untold) {
            if items.len() == usize::from(bounds.items_max) {
                break;
            }
            told += 1;
            begins |= entry.begins_sitting;
            let Some(row) = *row else { continue };
            if items.iter().filter(|item| item.row() == row).count() >= usize::from(bounds.repeats_max) {
                continue;
            }
            items.push(Touch::new(row, entry.kind, begins));
            begins = false;
            weight += model.hyper.kind(entry.kind()).weight;
        }
        let whole_weight = basis.whole.h;
        if items.is_empty() || weight == 0.0 {
            return None;
        }
        let mut factor = vec![0; model.dim];
        let mut factor_scale = quantise(self.factor(model, false)?, &mut factor);
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
            metrics: self.kept.unsent_quality.clone(),
        };
        Some((delta, told))
    }
}

/// Writes z(p·q) of every row into `out`.
pub fn factor_scores(model: &Model, p: &[f32], out: &mut Vec<f32>) {
    let mut query = Query::default();
    query.clear(model.dim);
    query.add_vector(model, p, 1.0);
    query.settle();
    let priors = vec![0.0; model.len()];
    query.for_each(model, &priors, |_, score| out.push(score));
}

fn gap_ends_sitting(last: &HistoryEntry, event: &Event) -> bool {
    event.time_ms.saturating_sub(last.time_ms) > SITTING_GAP_MS
}

/// Shares of the recent system below this are left out when it is rebuilt.
const RECENT_SHARE_MIN: f32 = 1e-4;
