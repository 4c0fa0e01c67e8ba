//! The blend's weights: a listwise softmax over candidates, one set a bucket of history length.
//!
//! ```text
//! P(target | candidates) = exp(β·x_target) / Σ_candidates exp(β·x)
//! ```
//!
//! maximised by Newton steps with a small ridge towards the weights of all buckets together, so
//! that a bucket with few events stays near the whole. Candidates are the best by each part alone,
//! each standing for itself, and a sample of the rest, each standing for its share of the rest
//! (exp(β·x) times that share): without the rest the fit would not learn what keeps the tail down.

use crate::fold_in::quadratic_form;
use crate::hyper::{BUCKETS, Blend, BlendWeights, bucket};
use crate::ids::Row;
use crate::model::Model;
use crate::popularity::NATS_PER_STEP;
use crate::recommend::TopK;
use crate::score::{Query, spread};
use crate::user_state::UserState;
use nalgebra::{SMatrix, SVector};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Candidates from each part.
const CANDIDATES: usize = 40;

/// Rows drawn from the rest.
const SAMPLED: usize = 60;

/// Parts: factor, transition, popularity, own.
const PARTS: usize = 4;

type Weights = SVector<f64, PARTS>;

/// One moment: the parts of every candidate, the target's first.
struct Example {
    bucket: usize,
    /// Factor, t (before gain and logarithm), popularity, ln(1 + r).
    candidates: Vec<[f32; PARTS]>,
    /// The first so many stand for themselves; the others for this many rows each.
    listed: usize,
    share: f64,
}

/// An example with the parts as the score weighs them.
struct Reading {
    bucket: usize,
    x: Vec<Weights>,
    listed: usize,
    share: f64,
}

impl Reading {
    /// Returns how many rows a candidate stands for.
    fn stands_for(&self, candidate: usize) -> f64 {
        if candidate < self.listed { 1.0 } else { self.share }
    }
}

/// What a replay saw.
#[derive(Default)]
pub(super) struct Examples {
    /// Targets new to the person, the person's own items left out.
    novel: Vec<Example>,
    /// All targets, nothing left out: these fit the weight of own items.
    all: Vec<Example>,
}

impl Examples {
    pub(super) fn observe(
        &mut self,
        person: &mut UserState,
        model: &Model,
        target: Row,
        touched: &HashSet<Row>,
        novel: bool,
        history: usize,
    ) {
        let p = person.scoring_factor(model);
        let mut query = Query::default();
        query.set_factor(model, p.as_deref().unwrap_or(&[]), 1.0);
        debug_assert!(
            p.as_ref().is_none_or(|p| spread(model, p) >= 0.0 && quadratic_form(&model.gram, p) >= -1e-3)
        );
        let (followers, own) = person.sparse_terms(model);
        let mut factor = vec![0.0; model.len()];
        query.for_each(model, |row, score| factor[row as usize] = score);
        let parts = |row: Row| {
            [
                factor[row as usize],
                followers.get(&row).copied().unwrap_or(0.0),
                f32::from(model.popularity(row)) * NATS_PER_STEP,
                own.get(&row).map_or(0.0, |count| (1.0 + count).ln()),
            ]
        };
        let bucket = bucket(history);
        if novel {
            let rows = candidates(model, target, &factor, &followers, touched);
            self.novel.push(example(bucket, rows, touched, model.len(), self.novel.len(), parts));
        }
        let mut rows = candidates(model, target, &factor, &followers, &HashSet::new());
        let listed: HashSet<Row> = rows.iter().copied().collect();
        rows.extend(own.keys().filter(|row| !listed.contains(row)));
        self.all.push(example(bucket, rows, &HashSet::new(), model.len(), self.all.len(), parts));
    }

    /// Returns the weights for one gain, and their NDCG@10 on the novel targets.
    pub(super) fn fit(&self, gain: f32) -> (Blend, f64) {
        let read = |example: &Example| Reading {
            bucket: example.bucket,
            listed: example.listed,
            share: example.share,
            x: example
                .candidates
                .iter()
                .map(|parts| {
                    let transition = (1.0 + gain * parts[1]).ln();
                    Weights::new(parts[0].into(), transition.into(), parts[2].into(), parts[3].into())
                })
                .collect(),
        };
        let novel: Vec<Reading> = self.novel.iter().map(read).collect();
        let all: Vec<Reading> = self.all.iter().map(read).collect();
        let shared_free = [true, true, true, false];
        let own_free = [false, false, false, true];
        let start = Weights::new(0.5, 0.5, 0.5, 0.0);
        let whole = newton(&novel.iter().collect::<Vec<_>>(), start, shared_free);
        let whole = newton(&all.iter().collect::<Vec<_>>(), whole, own_free);
        let mut blend = [BlendWeights { factor: 0.0, transition: 0.0, popularity: 1.0, own: 0.0 }; BUCKETS];
        let mut gain_sum = 0.0;
        for (at, weights) in blend.iter_mut().enumerate() {
            let examples: Vec<&Reading> = novel.iter().filter(|reading| reading.bucket == at).collect();
            let examples_all: Vec<&Reading> = all.iter().filter(|reading| reading.bucket == at).collect();
            let fitted = newton(&examples, whole, shared_free);
            let fitted = newton(&examples_all, fitted, own_free);
            gain_sum += examples.iter().map(|example| ndcg(example, &fitted)).sum::<f64>();
            if at > 0 {
                *weights = BlendWeights {
                    factor: fitted[0] as f32,
                    transition: fitted[1] as f32,
                    popularity: fitted[2] as f32,
                    own: fitted[3] as f32,
                };
            }
        }
        (blend, gain_sum / novel.len().max(1) as f64)
    }
}

/// Returns the target, then the best by factor, by transition and by popularity, without `excluded`.
fn candidates(
    model: &Model,
    target: Row,
    factor: &[f32],
    followers: &BTreeMap<Row, f32>,
    excluded: &HashSet<Row>,
) -> Vec<Row> {
    let mut by_factor = TopK::new(CANDIDATES);
    let mut by_popularity = TopK::new(CANDIDATES);
    for (row, score) in factor.iter().enumerate() {
        let row = row as Row;
        if !excluded.contains(&row) {
            by_factor.offer(row, *score);
            by_popularity.offer(row, f32::from(model.popularity(row)));
        }
    }
    let mut by_transition = TopK::new(CANDIDATES);
    followers
        .iter()
        .filter(|(row, _)| !excluded.contains(row))
        .for_each(|(row, weight)| by_transition.offer(*row, *weight));
    let mut rows: BTreeSet<Row> = BTreeSet::new();
    for part in [by_factor, by_popularity, by_transition] {
        rows.extend(part.into_sorted().into_iter().map(|item| item.row));
    }
    rows.remove(&target);
    std::iter::once(target).chain(rows).collect()
}

/// Adds a sample of the unlisted rows and reads the parts of all.
fn example(
    bucket: usize,
    mut rows: Vec<Row>,
    excluded: &HashSet<Row>,
    n: usize,
    draw: usize,
    parts: impl Fn(Row) -> [f32; PARTS],
) -> Example {
    let listed = rows.len();
    let known: HashSet<Row> = rows.iter().copied().collect();
    let rest = n.saturating_sub(listed + excluded.len());
    // A low-discrepancy walk over the rows, begun elsewhere for each example.
    let step = (n as f64 * 0.618_033_988_749_895) as usize | 1;
    let mut place = draw.wrapping_mul(7919) % n.max(1);
    for _ in 0..SAMPLED.min(rest) {
        place = (place + step) % n;
        let row = place as Row;
        if !known.contains(&row) && !excluded.contains(&row) {
            rows.push(row);
        }
    }
    let share = rest as f64 / (rows.len() - listed).max(1) as f64;
    Example { bucket, candidates: rows.into_iter().map(parts).collect(), listed, share }
}

fn ndcg(reading: &Reading, weights: &Weights) -> f64 {
    let own = reading.x[0].dot(weights);
    let above: f64 = (1..reading.x.len())
        .filter(|candidate| reading.x[*candidate].dot(weights) > own)
        .map(|candidate| reading.stands_for(candidate))
        .sum();
    if above < 10.0 { 1.0 / (2.0 + above).log2() } else { 0.0 }
}

/// Maximises the mean log-likelihood less a ridge towards `prior`, over the free weights.
fn newton(readings: &[&Reading], prior: Weights, free: [bool; PARTS]) -> Weights {
    /// Weight of the prior, in examples.
    const PRIOR_EXAMPLES: f64 = 50.0;
    const STEPS: usize = 12;
    let mut weights = prior;
    if readings.is_empty() {
        return weights;
    }
    for _ in 0..STEPS {
        let mut gradient = (prior - weights) * PRIOR_EXAMPLES;
        let mut curvature = SMatrix::<f64, PARTS, PARTS>::identity() * PRIOR_EXAMPLES;
        for reading in readings {
            let scores: Vec<f64> = reading.x.iter().map(|x| x.dot(&weights)).collect();
            let largest = scores.iter().fold(f64::NEG_INFINITY, |largest, score| largest.max(*score));
            let shares: Vec<f64> = scores
                .iter()
                .enumerate()
                .map(|(candidate, score)| (score - largest).exp() * reading.stands_for(candidate))
                .collect();
            let total: f64 = shares.iter().sum();
            let mut mean = Weights::zeros();
            let mut square = SMatrix::<f64, PARTS, PARTS>::zeros();
            for (x, share) in reading.x.iter().zip(&shares) {
                let share = share / total;
                mean += x * share;
                square += x * x.transpose() * share;
            }
            gradient += reading.x[0] - mean;
            curvature += square - mean * mean.transpose();
        }
        for part in 0..PARTS {
            if !free[part] {
                gradient[part] = 0.0;
                curvature.row_mut(part).fill(0.0);
                curvature.column_mut(part).fill(0.0);
                curvature[(part, part)] = 1.0;
            }
        }
        let Some(mut step) = curvature.cholesky().map(|cholesky| cholesky.solve(&gradient)) else { break };
        let length = step.norm();
        if length > 1.0 {
            step /= length; // far from the optimum a full step can overshoot
        }
        weights += step;
        if length < 1e-4 {
            break;
        }
    }
    weights
}
