//! iALS without update: the factors of the training half, a person folded in after each event.
//!
//! ```text
//! p = (α0 G + Σ w q qᵀ + λ (h + α0 n) I)⁻¹ Σ w t q          score(i) = p·q_i
//! ```
//!
//! Rendle, Krichene, Zhang, Koren (2021), arXiv 2110.14037, with the α0 and λ that `train` chose.
//! The variant with recency adds the product's second system, weighted κ and decaying by ρ.

use super::Baseline;
use crate::evaluate::outcomes::Stream;
use crate::event_log::LogEvent;
use nearfield_engine::algebra::{NormalEquations, Solver};
use nearfield_engine::event::Kind;
use nearfield_engine::limits::HISTORY_MIN;
use nearfield_engine::model::Model;
use nearfield_engine::model::hyper::Hyperparameters;
use std::collections::{BTreeMap, HashMap, VecDeque};

/// A model's item factors, by the stream's numbers.
#[derive(Clone, Debug)]
pub struct StaticFactors {
    dim: usize,
    recency: bool,
    hyper: Hyperparameters,
    gram: Vec<f32>,
    /// n, the model's rows.
    rows: usize,
    /// Factors by number; items that came after training have none.
    items: Vec<Option<Vec<f32>>>,
    people: HashMap<u32, VecDeque<(u32, Kind)>>,
    solver: Solver,
}

impl StaticFactors {
    /// Returns the factors of a trained model, with the recency term or without.
    pub fn new(stream: &Stream<'_>, model: &Model, recency: bool) -> Self {
        let mut items = vec![None; stream.items];
        for row in 0..model.len() as u32 {
            let (factors, scale) = model.factors(row);
            if let Some(number) = stream.number(model.item_id(row)) {
                items[number as usize] =
                    Some(factors.iter().map(|factor| f32::from(*factor) * scale).collect());
            }
        }
        Self {
            dim: model.dim(),
            recency,
            hyper: model.hyperparameters().clone(),
            gram: model.gram().to_vec(),
            rows: model.len(),
            items,
            people: HashMap::new(),
            solver: Solver::new(model.dim()),
        }
    }
}

impl Baseline for StaticFactors {
    fn name(&self) -> &'static str {
        if self.recency { "iALS, folded in with recency" } else { "iALS, folded in" }
    }

    fn parameters(&self) -> BTreeMap<&'static str, f64> {
        let mut parameters = BTreeMap::from([
            ("dim", self.dim as f64),
            ("alpha", f64::from(self.hyper.alpha)),
            ("lambda", f64::from(self.hyper.lambda)),
        ]);
        if self.recency {
            parameters.insert("recent_decay", f64::from(self.hyper.recent_decay));
            parameters.insert("recent_weight", f64::from(self.hyper.recent_weight));
        }
        parameters
    }

    fn scores(&mut self, person: u32, out: &mut [f32]) {
        let Some(history) = self.people.get(&person) else { return };
        let mut whole = NormalEquations::new(self.dim);
        let mut recent = NormalEquations::new(self.dim);
        let mut recency = 1.0;
        for (item, kind) in history.iter().rev() {
            let weights = self.hyper.kind(*kind);
            if let Some(q) = &self.items[*item as usize] {
                whole.add(q, weights.weight, weights.target);
                if self.recency && recency > 1e-4 {
                    recent.add(q, recency * weights.weight, weights.target);
                }
            }
            recency *= self.hyper.recent_decay;
        }
        let kappa = if self.recency { self.hyper.recent_weight } else { 0.0 };
        let mut b = whole.b;
        nearfield_engine::algebra::add_scaled(&mut b, &recent.b, kappa);
        let parts = [(self.hyper.alpha, &self.gram[..]), (1.0, &whole.a), (kappa, &recent.a)];
        let ridge = self.hyper.lambda * (whole.h + self.hyper.alpha * self.rows as f32);
        let Some(p) = self.solver.solve(&parts, ridge, &b) else { return };
        for (out, q) in out.iter_mut().zip(&self.items) {
            if let Some(q) = q {
                *out = p.iter().zip(q).map(|(p, q)| p * q).sum();
            }
        }
    }

    fn learn(&mut self, event: &LogEvent) {
        let history = self.people.entry(event.user).or_default();
        if history.len() == HISTORY_MIN {
            history.pop_front();
        }
        history.push_back((event.item, event.kind));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::baselines::tests::log;
    use nearfield_engine::{UserState, Workspace};

    #[test]
    fn a_person_is_folded_in_as_the_product_does_without_recency() {
        let model = nearfield_engine::golden::model();
        // Every item once, so that all have a number, in another order than the model's.
        let others =
            (0..model.len()).rev().map(|row| ("other".to_owned(), model.item_id(row as u32).to_owned()));
        let own = [7, 3, 7, 11].map(|row| ("own".to_owned(), model.item_id(row).to_owned()));
        let log = log(others.chain(own).zip(0..).map(|((person, item), at)| (person, item, at)));
        let stream = Stream::new(&log, &Hyperparameters::starting_point());
        let mut baseline = StaticFactors::new(&stream, &model, false);
        let mut person = UserState::new();
        for index in stream.events.len() - 4..stream.events.len() {
            baseline.learn(&stream.events[index]);
            person.remember(&log.event(index));
        }
        let mut expected = Vec::new();
        person.factor_scores(&model, &mut Workspace::new(), &mut expected);
        let mut scores = vec![f32::NEG_INFINITY; stream.items];
        baseline.scores(1, &mut scores);
        let by_row: Vec<f32> = (0..model.len() as u32)
            .map(|row| scores[stream.number(model.item_id(row)).unwrap() as usize])
            .collect();
        // The product divides by the spread over the catalogue: the same scores in another unit.
        let squares = |scores: &[f32]| scores.iter().map(|score| score * score).sum::<f32>().sqrt();
        let (ours, theirs) = (squares(&by_row), squares(&expected));
        assert!(ours > 0.0 && theirs > 0.0);
        for (row, (score, expected)) in by_row.iter().zip(&expected).enumerate() {
            let (score, expected) = (score / ours, expected / theirs);
            assert!((score - expected).abs() < 1e-3, "row {row}: {score}, the product has {expected}");
        }
    }

    #[test]
    fn recency_draws_the_scores_towards_the_newest_item() {
        let model = nearfield_engine::golden::model();
        let log =
            log((0..model.len() as u32).map(|row| ("u".into(), model.item_id(row).into(), u64::from(row))));
        let stream = Stream::new(&log, &Hyperparameters::starting_point());
        let newest = stream.events.last().unwrap().item as usize;
        let rank_of_newest = |recency| {
            let mut baseline = StaticFactors::new(&stream, &model, recency);
            stream.events.iter().for_each(|event| baseline.learn(event));
            let mut scores = vec![f32::NEG_INFINITY; stream.items];
            baseline.scores(0, &mut scores);
            scores.iter().filter(|score| **score > scores[newest]).count()
        };
        assert!(
            rank_of_newest(true) < rank_of_newest(false),
            "{} against {}",
            rank_of_newest(true),
            rank_of_newest(false)
        );
    }
}
