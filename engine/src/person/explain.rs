//! Reasons: which parts of the score brought an item into a list, and which of the person's events.
//!
//! The score is a sum (`rank/query.rs`), so that each part of it has its share. What all items of the
//! catalogue have in common is no reason for any one of them: factors and popularity count from their mean.
//!
//! ```text
//! taste    Σ_v β_v p_v·(q_i − q̄) / σ_v          v: recency-weighted and plain factor
//! last     the same of the newest item's row
//! popular  prior_i − its mean, and the popularity features of listed rows
//! next     all other features of listed rows
//! own      the features of own items
//! ```
//!
//! The event behind `taste` is the one that adds most to p·q_i = Σ_k w_k t_k q_kᵀ A⁻¹ q_i.

use crate::event::Kind;
use crate::ids::Row;
use crate::model::Model;
use crate::model::blend::{self, Scenario, Weights, bucket};
use crate::model::hyper::KindWeight;
use crate::model::priors::prior;
use crate::person::equations::Equations;
use crate::person::history::History;
use crate::person::{UserState, Workspace, read_history};
use crate::rank::features::Candidates;
use crate::rank::query::scale;
use alloc::vec;
use alloc::vec::Vec;
use nearfield_kernels::algebra::{Solver, inner, power};

/// Events that are asked whether they are the reason: a choice, the newest ones.
const EVENTS_MAX: usize = 128;

/// A part of the score, as a person would name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The person's taste, as the factors know it.
    Taste = 0,
    /// Likeness to the newest item.
    Last = 1,
    /// What many people choose now.
    Popular = 2,
    /// What people choose next to an item of the person's.
    Next = 3,
    /// The person's own return to the item.
    Own = 4,
}

/// All parts, at their index.
const PARTS: [Part; 5] = [Part::Taste, Part::Last, Part::Popular, Part::Next, Part::Own];

/// Why an item is in a list.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reason {
    /// The part of the score.
    pub part: Part,
    /// Its share of all parts that speak for the item, 0 to 1.
    pub share: f32,
    /// The row and kind of the event behind it, where it is one event.
    pub because: Option<(Row, Kind)>,
}

/// The two parts that weigh most for one item, the heavier one first.
pub type Reasons = [Option<Reason>; 2];

/// One event with a row, newest first.
struct Known {
    row: Row,
    kind: Kind,
    age: usize,
    /// w t of the event, in the system that explains a taste.
    weight: f32,
    /// The row as numbers.
    q: Vec<f32>,
}

impl Known {
    fn new(model: &Model, row: Row, kind: Kind, age: usize, recency: bool) -> Self {
        let hyper = &model.hyper;
        let KindWeight { weight, target } = hyper.kind(kind);
        let recent_weight = if recency { hyper.recent_weight } else { 0.0 };
        let recent = recent_weight * power(hyper.recent_decay, age);
        Self { row, kind, age, weight: weight * target * (1.0 + recent), q: row_of(model, row) }
    }
}

/// The score of a person's lists, taken apart.
struct Breakdown<'a> {
    model: &'a Model,
    weights: &'a Weights,
    /// β p / σ of each of the person's vectors, with the part that it belongs to.
    vectors: Vec<(Part, Vec<f32>)>,
    candidates: &'a Candidates,
    mean_prior: f32,
}

impl<'a> Breakdown<'a> {
    fn new(
        model: &'a Model,
        scenario: Scenario,
        history: &History,
        equations: &mut Equations,
        solver: &mut Solver,
        candidates: &'a mut Candidates,
    ) -> Self {
        let weights = model.hyper.blend.weights(scenario, bucket(history.entries.len()));
        let mut vectors = Vec::new();
        for (feature, recency) in [(blend::FACTOR_RECENT, true), (blend::FACTOR_WHOLE, false)] {
            if let Some(p) = equations.factor(model, recency, solver) {
                vectors.push((Part::Taste, scaled(model, p, weights[feature])));
            }
        }
        if let Some(q) = equations.newest_row(model, history) {
            vectors.push((Part::Last, scaled(model, q, weights[blend::FACTOR_LAST])));
        }
        read_history(model, history, &equations.rows, scenario == Scenario::Continue, candidates);
        let mean_prior = prior(weights, model.popularity_mean(), 0.0);
        Self { model, weights, vectors, candidates, mean_prior }
    }

    /// Returns the parts of an item's score, without what all items have in common.
    fn parts(&self, row: Row) -> [f32; PARTS.len()] {
        let Self { model, weights, .. } = self;
        let mut parts = [0.0; PARTS.len()];
        let mut q = row_of(model, row);
        q.iter_mut().zip(model.mean()).for_each(|(q, mean)| *q -= mean);
        for (part, vector) in &self.vectors {
            parts[*part as usize] += inner(vector, &q);
        }
        parts[Part::Popular as usize] += model.prior_of(row, weights) - self.mean_prior;
        for (feature, value) in self.candidates.features_of(model, row).iter().flatten().enumerate() {
            if feature >= blend::STATIC.end {
                parts[part_of(feature) as usize] += weights[feature] * value;
            }
        }
        parts
    }
}

impl UserState {
    /// Returns why items are in the person's list for `scenario`: for each of `rows` the two parts of the score
    /// that weigh most. Rows that the model does not have get no reasons.
    pub fn explain(
        &mut self,
        model: &Model,
        scenario: Scenario,
        rows: &[Row],
        workspace: &mut Workspace,
    ) -> Vec<Reasons> {
        let Workspace { solver, candidates, .. } = workspace;
        let history = &self.stored.history;
        let equations = Equations::current(&mut self.equations, model, history);
        let breakdown = Breakdown::new(model, scenario, history, equations, solver, candidates);
        // The matrix of the factor that weighs more tells which event is behind a taste.
        let weights = breakdown.weights;
        let recency = weights[blend::FACTOR_RECENT] >= weights[blend::FACTOR_WHOLE];
        let known: Vec<Known> = (equations.rows.iter().zip(&history.entries).rev().enumerate())
            .filter(|(_, (_, entry))| model.hyper.is_target(entry.kind()))
            .filter_map(|(age, (row, entry))| Some(Known::new(model, (*row)?, entry.kind(), age, recency)))
            .take(EVENTS_MAX)
            .collect();
        let factorised = equations.factorise(model, recency, solver).is_some();
        let mut reasons_of = |row: Row| {
            heaviest(&breakdown.parts(row)).map(|heavy| {
                let (part, share) = heavy?;
                let because = match part {
                    Part::Taste if factorised => solver
                        .solve_again(&row_of(model, row))
                        .and_then(|q| most(&known, |event| event.weight * inner(&event.q, q))),
                    Part::Last => known.first(),
                    Part::Next => behind_next(model, &known, row),
                    Part::Taste | Part::Popular | Part::Own => None,
                };
                Some(Reason { part, share, because: because.map(|event| (event.row, event.kind)) })
            })
        };
        rows.iter()
            .map(|row| if (*row as usize) < model.len() { reasons_of(*row) } else { [None, None] })
            .collect()
    }
}

/// Returns the two heaviest parts that speak for an item, with their shares; ties go to the part that comes
/// first.
fn heaviest(parts: &[f32; PARTS.len()]) -> [Option<(Part, f32)>; 2] {
    let all: f32 = parts.iter().filter(|part| **part > 0.0).sum();
    let heavier = |first: Part, second: Part| {
        if parts[second as usize] > parts[first as usize] { second } else { first }
    };
    let heaviest_but = |left_out: Option<Part>| {
        let best = PARTS.into_iter().filter(|part| Some(*part) != left_out).reduce(heavier)?;
        let weight = parts[best as usize];
        (weight > 0.0).then(|| (best, weight / all))
    };
    let first = heaviest_but(None);
    [first, first.and_then(|(part, _)| heaviest_but(Some(part)))]
}

/// Returns the part that a listed feature belongs to.
fn part_of(feature: usize) -> Part {
    match feature {
        blend::LISTED_POPULARITY_1 | blend::LISTED_POPULARITY_3 => Part::Popular,
        _ if blend::OF_OWN.contains(&feature) => Part::Own,
        _ => Part::Next,
    }
}

/// Returns the event whose item people choose this one next to most often.
fn behind_next<'a>(model: &Model, known: &'a [Known], row: Row) -> Option<&'a Known> {
    let settings = &model.hyper.transitions;
    let share = |event: &Known| {
        let found = model.neighbours(event.row).find(|neighbour| neighbour.row == row);
        let fraction = found.map_or(0.0, |it| it.forward + it.backward + it.fresh);
        fraction * power(settings.recent_decay, event.age)
    };
    let recent = known.iter().take_while(|event| event.age < usize::from(settings.recent)).count();
    // By way of one item in between it is the newest event that leads there.
    most(&known[..recent], share).or(known.first())
}

/// Returns the event with the largest share above zero, the newest of equal ones.
fn most(known: &[Known], share: impl Fn(&Known) -> f32) -> Option<&Known> {
    let shares = known.iter().map(|event| (share(event), event)).filter(|(share, _)| *share > 0.0);
    let larger = |best: (f32, _), next: (f32, _)| if next.0 > best.0 { next } else { best };
    shares.reduce(larger).map(|(_, event)| event)
}

/// Returns β p / σ.
fn scaled(model: &Model, p: &[f32], weight: f32) -> Vec<f32> {
    let scale = scale(model, p, weight);
    p.iter().map(|value| scale * value).collect()
}

fn row_of(model: &Model, row: Row) -> Vec<f32> {
    let mut q = vec![0.0; model.dim()];
    model.dequantise(row, &mut q);
    q
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;
    use crate::golden;

    #[test]
    fn the_parts_and_what_all_items_have_in_common_add_up_to_the_score() {
        let model = golden::model();
        let mut workspace = Workspace::new();
        let mut person = UserState::new();
        let mut scores = Vec::new();
        for turn in 0..30u64 {
            for scenario in Scenario::ALL {
                person.scores(&model, scenario, &mut workspace, &mut scores);
                let Workspace { solver, candidates, .. } = &mut workspace;
                let history = &person.stored.history;
                let equations = Equations::current(&mut person.equations, &model, history);
                let breakdown = Breakdown::new(&model, scenario, history, equations, solver, candidates);
                let vectors = breakdown.vectors.iter();
                let common: f32 = breakdown.mean_prior
                    + vectors.map(|(_, vector)| inner(vector, model.mean())).sum::<f32>();
                for (row, score) in scores.iter().enumerate() {
                    let sum: f32 = breakdown.parts(row as Row).iter().sum();
                    // The score is made of a vector at 16 bits.
                    assert!((sum + common - score).abs() < 2e-3, "row {row}: {sum} + {common}, not {score}");
                }
            }
            let event = Event::new(Kind::Click, format!("item-{}", turn * 7 % 50), 1_000 + turn);
            person.learn(&model, &event, event.time_ms).unwrap();
        }
    }
}
