//! One person's state: history, normal equations, outbox, and the quality that the person saw.
//!
//! Kept are the last 512 to 639 events by item key. All else is derived from them and the model: the two
//! systems of normal equations are updated with each event and made anew when a new version arrives.
//!
//! ```text
//! Event → learn (history, equations, quality) → recommend (fold_in → rank) → take_delta (outbox)
//! ```

mod bytes;
mod equations;
mod explain;
mod explore;
mod fold_in;
mod history;
mod migrate;
mod outbox;
mod quality;
mod workspace;

use alloc::vec::Vec;
pub use explain::{Part, Reason, Reasons};
pub use history::HistoryEntry;
pub use quality::RankBins;
pub use workspace::Workspace;

use crate::error::EventError;
use crate::event::Event;
use crate::ids::{Lineage, ModelVersion, Row};
use crate::limits::COUNT_MAX;
use crate::model::Model;
use crate::model::blend::{self, Candidate, Scenario, bucket};
use crate::rank::Read;
use crate::rank::diversity;
use crate::rank::features::{Candidates, PastEvent};
use crate::rank::request::Request;
use crate::rank::top_k::Scored;
use alloc::collections::VecDeque;
use bytes::StoredState;
use equations::Equations;
use explore::Exploration;
use history::History;

/// Items at the head of a list whose choice is counted by rank, and which the next list reads first.
const SHOWN: usize = 20;

/// Longest time with an item that counts, in milliseconds (two minutes).
const STAY_MS_MAX: u64 = 120_000;

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

/// The recency-weighted factor, the plain factor, the newest item's row; `None` where there is none.
pub type Vectors = [Option<Vec<f32>>; 3];

/// One person's state.
///
/// ```
/// use nearfield_engine::{Event, Kind, Request, UserState, Workspace, golden};
/// let model = golden::model();
/// let mut workspace = Workspace::new();
/// let mut person = UserState::new();
/// person.learn(&model, &Event::new(Kind::Click, "item-3", 1_000), 1_000)?;
/// let request = Request { count: 5, ..Request::default() };
/// let list = person.recommend(&model, &request, &mut workspace);
/// assert_eq!(list.len(), 5);
/// assert!(list.iter().all(|item| model.item_id(item.row) != "item-3"), "what was seen is left out");
/// # Ok::<(), nearfield_engine::EventError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct UserState {
    stored: StoredState,
    equations: Option<Equations>,
    last: LastList,
}

/// The head of the list that was made last.
#[derive(Clone, Debug, Default)]
struct LastList {
    /// The model that made it. A row names the same item in all versions of a lineage, and another one
    /// elsewhere.
    made_by: Option<(Lineage, ModelVersion)>,
    /// Its first rows, best first.
    rows: Vec<Row>,
    /// Whether the next choice is counted by its rank in it.
    shown: bool,
}

impl LastList {
    /// Returns the rows, if they are rows of the model.
    fn rows_of(&self, model: &Model) -> &[Row] {
        if self.made_by.is_some_and(|(lineage, _)| lineage == model.lineage) { &self.rows } else { &[] }
    }
}

impl UserState {
    /// Returns the state of a person of whom nothing is known.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the number of events kept.
    pub fn len(&self) -> usize {
        self.stored.history.entries.len()
    }

    /// Returns whether nothing is known of the person.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the history, oldest first.
    pub fn history(&self) -> impl DoubleEndedIterator<Item = &HistoryEntry> + ExactSizeIterator {
        self.stored.history.entries.iter()
    }

    /// Returns how often the person chose what had been listed, and at which rank.
    pub fn quality(&self) -> &RankBins {
        &self.stored.quality.whole
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
        let Some(entry) = self.stored.history.entry(event) else { return Ok(Learned::Duplicate) };
        self.count_choice(model, entry.key, event.kind);
        let history = &mut self.stored.history;
        let equations = Equations::current(&mut self.equations, model, history);
        history.push(entry, event);
        equations.append(model, history);
        Ok(Learned::Applied)
    }

    /// As [`UserState::learn`], for a person who does not share: no delta will carry the event, nor the
    /// rank that its item had.
    ///
    /// # Errors
    /// [`EventError`] names the field; nothing is changed.
    pub fn learn_privately(
        &mut self,
        model: &Model,
        event: &Event,
        now_ms: u64,
    ) -> Result<Learned, EventError> {
        let unsent = self.stored.quality.unsent.clone();
        let learned = self.learn(model, event, now_ms)?;
        if learned == Learned::Applied {
            self.stored.quality.unsent = unsent;
            self.stored.history.withhold_newest();
        }
        Ok(learned)
    }

    /// Takes the head of a list that was shown elsewhere, as by another copy of this state, for the one
    /// shown last: the next choice is counted by its rank in it. `rows`, best first, are those of the
    /// model's lineage; one that the model does not have is left out.
    pub fn was_shown(&mut self, model: &Model, version: ModelVersion, rows: &[Row]) {
        let known = rows.iter().copied().filter(|row| (*row as usize) < model.len());
        let rows: Vec<Row> = known.take(SHOWN).collect();
        self.last = LastList { made_by: Some((model.lineage, version)), shown: !rows.is_empty(), rows };
    }

    /// Returns the head of the list that was shown last, while no choice has been counted by it, and the lineage
    /// and version that made it: what [`UserState::was_shown`] takes.
    pub fn shown(&self) -> Option<(Lineage, ModelVersion, &[Row])> {
        let (lineage, version) = self.last.made_by.filter(|_| self.last.shown)?;
        Some((lineage, version, &self.last.rows))
    }

    /// Returns the best items of the whole catalogue for this person, best first.
    ///
    /// The list is remembered as the one shown: the next choice is counted by its rank in it.
    pub fn recommend(&mut self, model: &Model, request: &Request, workspace: &mut Workspace) -> Vec<Scored> {
        let mut list = Vec::new();
        self.recommend_into(model, request, workspace, &mut list);
        list
    }

    /// As [`UserState::recommend`], for a list that is not shown: the next choice is still counted by its
    /// rank in the one before.
    pub fn peek(&mut self, model: &Model, request: &Request, workspace: &mut Workspace) -> Vec<Scored> {
        let last = self.last.clone();
        let list = self.recommend(model, request, workspace);
        self.last = last;
        list
    }

    /// As [`UserState::recommend`], into a list that is used again and again.
    pub fn recommend_into(
        &mut self,
        model: &Model,
        request: &Request,
        workspace: &mut Workspace,
        list: &mut Vec<Scored>,
    ) {
        let bucket = bucket(self.len());
        let exploration = (request.explore > 0.0)
            .then_some(Exploration { epsilon: request.explore.min(1.0), seed: request.seed });
        self.prepare(model, request.scenario, bucket, exploration, workspace);
        let Workspace { query, visits, barred, top, read, .. } = workspace;
        *read = Read::default();
        barred.reset(model.len());
        let seen = self.equations.iter().flat_map(|equations| equations.rows.iter().flatten());
        let seen = seen.filter(|_| request.scenario == Scenario::Discover);
        for row in request.deny.iter().chain(seen) {
            barred.insert(*row);
        }
        let count = request.count.min(COUNT_MAX);
        let diverse = request.diversity > 0.0 && count > 0;
        top.reset(if diverse { diversity::pool(count) } else { count } as usize);
        let priors = model.priors(request.scenario, bucket);
        match &request.allow {
            Some(allow) => query.rank_only(model, priors, allow, barred, top),
            None if top.count() > 0 => {
                visits.plan(query, model, priors, top.count());
                *read = query.rank(model, priors, self.last.rows_of(model), visits, barred, top);
            }
            None => {}
        }
        list.clear();
        if diverse {
            diversity::choose(model, top.as_sorted(), count as usize, request.diversity.min(1.0), list);
        } else {
            list.extend_from_slice(top.as_sorted());
        }
        self.last.shown = !list.is_empty();
        if request.count > 0 {
            self.last.made_by = Some((model.lineage, model.version));
            self.last.rows.clear();
            self.last.rows.extend(list.iter().take(SHOWN).map(|item| item.row));
        }
    }

    /// Learns from an event and ranks the whole catalogue again, in one call.
    ///
    /// # Errors
    /// [`EventError`] names the field; neither state nor list is changed.
    pub fn observe(
        &mut self,
        model: &Model,
        event: &Event,
        now_ms: u64,
        request: &Request,
        workspace: &mut Workspace,
        list: &mut Vec<Scored>,
    ) -> Result<Learned, EventError> {
        let learned = self.learn(model, event, now_ms)?;
        self.recommend_into(model, request, workspace, list);
        Ok(learned)
    }

    /// Writes the score of every row into `out`, for evaluation; nothing is filtered.
    pub fn scores(
        &mut self,
        model: &Model,
        scenario: Scenario,
        workspace: &mut Workspace,
        out: &mut Vec<f32>,
    ) {
        let bucket = bucket(self.len());
        self.prepare(model, scenario, bucket, None, workspace);
        out.clear();
        let priors = &model.priors(scenario, bucket).values;
        workspace.query.for_each(model, priors, |_, score| out.push(score));
    }

    /// Writes the plain factor's score of every row into `out` (κ = 0, no blend): what the factors
    /// alone know, for protocols whose data have no order in time.
    pub fn factor_scores(&mut self, model: &Model, workspace: &mut Workspace, out: &mut Vec<f32>) {
        let equations = Equations::current(&mut self.equations, model, &self.stored.history);
        out.clear();
        let p = equations.factor(model, false, &mut workspace.solver).unwrap_or(&[]);
        crate::rank::factor_scores(model, p, out);
    }

    /// Returns the factor by which this person's lists are ranked, d numbers: the fold-in with the recent past at its
    /// weight. `None` where nothing of the model's items was touched.
    pub fn factor(&mut self, model: &Model, workspace: &mut Workspace) -> Option<Vec<f32>> {
        let equations = Equations::current(&mut self.equations, model, &self.stored.history);
        equations.factor(model, true, &mut workspace.solver).map(<[f32]>::to_vec)
    }

    /// Returns all that a blend weighs: the person's vectors, and the candidates with their features in
    /// rising order of rows, the person's own items included.
    pub fn features(&mut self, model: &Model, workspace: &mut Workspace) -> (Vectors, Vec<Candidate>) {
        let equations = Equations::current(&mut self.equations, model, &self.stored.history);
        let owned = |p: &[f32]| p.to_vec();
        let recent = equations.factor(model, true, &mut workspace.solver).map(owned);
        let whole = equations.factor(model, false, &mut workspace.solver).map(owned);
        let last = equations.newest_row(model, &self.stored.history).map(owned);
        let candidates = &mut workspace.candidates;
        read_history(model, &self.stored.history, &equations.rows, true, candidates);
        let mut rows: Vec<_> = candidates.rows(model).collect();
        rows.sort_unstable_by_key(|(row, _)| *row);
        ([recent, whole, last], rows)
    }

    /// Takes an event into the history that the trained model has learned already, so that no delta
    /// carries it again.
    pub fn remember(&mut self, event: &Event) {
        if event.kind.is_history() {
            self.stored.history.remember(event);
            self.equations = None;
        }
    }

    /// Drops what can be derived again from history and model, which leaves a few kilobytes.
    pub fn rest(&mut self) {
        self.equations = None;
        if !self.last.shown {
            self.last.rows = Vec::new();
        }
    }

    /// Builds the query of the current state, of a sample of it where the list explores.
    fn prepare(
        &mut self,
        model: &Model,
        scenario: Scenario,
        bucket: usize,
        exploration: Option<Exploration>,
        workspace: &mut Workspace,
    ) {
        let weights = model.hyper.blend.weights(scenario, bucket);
        let Workspace { solver, query, candidates, .. } = workspace;
        let equations = Equations::current(&mut self.equations, model, &self.stored.history);
        query.clear(model.dim());
        for (feature, recency) in [(blend::FACTOR_RECENT, true), (blend::FACTOR_WHOLE, false)] {
            if weights[feature] != 0.0
                && let Some(p) = equations.factor(model, recency, solver)
            {
                match exploration {
                    None => query.add_vector(model, p, weights[feature]),
                    Some(exploration) => {
                        let mut p = p.to_vec();
                        equations.deviate(model, recency, exploration, solver, &mut p);
                        query.add_vector(model, &p, weights[feature]);
                    }
                }
            }
        }
        if weights[blend::FACTOR_LAST] != 0.0
            && let Some(q) = equations.newest_row(model, &self.stored.history)
        {
            query.add_vector(model, q, weights[blend::FACTOR_LAST]);
        }
        query.quantise();
        let own = scenario == Scenario::Continue;
        read_history(model, &self.stored.history, &equations.rows, own, candidates);
        query.boosts.extend(candidates.boosts(model, weights));
        query.sort_boosts();
    }
}

/// Reads a history into the candidates; `rows` are its entries' rows.
fn read_history(
    model: &Model,
    history: &History,
    rows: &VecDeque<Option<Row>>,
    own: bool,
    candidates: &mut Candidates,
) {
    let mut in_session = true;
    let mut next_ms = None;
    let newest_first = rows.iter().zip(&history.entries).rev().enumerate();
    let events = newest_first.filter_map(|(age, (row, entry))| {
        let stay = next_ms.map_or(0.0, |next: u64| {
            next.saturating_sub(entry.time_ms).min(STAY_MS_MAX) as f32 / STAY_MS_MAX as f32
        });
        next_ms = Some(entry.time_ms);
        let event = row.filter(|_| model.hyper.is_target(entry.kind())).map(|row| PastEvent {
            row,
            age,
            in_session,
            stay,
        });
        in_session &= !entry.starts_session;
        event
    });
    candidates.read(model, events, own);
}
