//! The blend's weights, one set a scenario and bucket of history length: a listwise softmax over
//! candidates gives a starting point, from which an ascent of the smoothed NDCG continues.
//!
//! ```text
//! P(target | candidates) = exp(β·x_target) / Σ_candidates exp(β·x)
//! ```
//!
//! maximised by Newton steps; the ascent fits all buckets together, then each bucket with a ridge
//! towards where it began, so that a bucket with few events stays near the whole.
//! The softmax alone cares as much for targets far down the list as for the first ten. Candidates are
//! the best by each part alone, each standing for itself, and a sample of the rest, each standing for
//! its part of the rest: without the rest the fit would not learn to rank unlikely rows low.

use crate::replay::Moment;
use nearfield_engine::algebra::{Solver, add_outer, packed_len};
use nearfield_engine::model::blend::{
    BACKWARD, BUCKETS, Blend, COLD, Candidate, FACTORS, FEATURES, FORWARD, OF_OWN, OWNED, POPULARITY,
    Weights, bucket,
};
use nearfield_engine::model::popularity::HALF_LIVES;
use nearfield_engine::rank::factor_scores;
use nearfield_engine::rank::top_k::TopK;
use nearfield_engine::{Model, Row, Scenario};
use rayon::prelude::*;
use std::collections::{BTreeSet, HashSet};

/// Candidates from each part.
const CANDIDATES: usize = 40;

/// Rows drawn from the rest.
const SAMPLED: usize = 60;

/// One moment: the features of every candidate, the target's first.
struct Example {
    bucket: usize,
    candidates: Vec<Weights>,
    /// The first so many stand for themselves; the others for `rows_each` rows each.
    listed: usize,
    rows_each: f32,
}

impl Example {
    /// Returns how many rows a candidate stands for.
    fn stands_for(&self, candidate: usize) -> f32 {
        if candidate < self.listed { 1.0 } else { self.rows_each }
    }
}

/// What a replay saw.
#[derive(Default)]
pub(super) struct Examples {
    /// Targets new to the person, the person's own items left out.
    novel: Vec<Example>,
    /// All targets, nothing left out.
    all: Vec<Example>,
}

/// A fitted blend and how it ranks what it was fitted on.
pub(super) struct Fitted {
    pub(super) blend: Blend,
    /// NDCG@10 by scenario: discover, continue.
    pub(super) ndcg10: [f64; 2],
}

impl Examples {
    /// Notes the moment before `target` was chosen.
    pub(super) fn observe(&mut self, moment: Moment<'_>, target: Row) {
        let Moment { person, workspace, model, touched, novel, history, .. } = moment;
        let (vectors, listed) = person.features(model, workspace);
        let mut factors: [Vec<f32>; 3] = Default::default();
        for (p, scores) in vectors.iter().zip(&mut factors) {
            factor_scores(model, p.as_deref().unwrap_or(&[]), scores);
        }
        let features = |row: Row| {
            let found = listed.binary_search_by_key(&row, |(listed, _)| *listed);
            let mut features = found.map_or([0.0; FEATURES], |at| listed[at].1);
            for (at, scores) in FACTORS.zip(&factors) {
                features[at] = scores[row as usize];
            }
            features[POPULARITY..POPULARITY + HALF_LIVES].copy_from_slice(&model.popularity_features(row));
            features[COLD] = model.cold(row);
            features
        };
        let bucket = bucket(history);
        let nothing = HashSet::new();
        for scenario in [Scenario::Discover, Scenario::Continue] {
            let (examples, excluded) = match scenario {
                Scenario::Discover if !novel => continue,
                Scenario::Discover => (&mut self.novel, touched),
                Scenario::Continue => (&mut self.all, &nothing),
            };
            let rows = candidates(model, target, &factors[0], &listed, excluded, scenario);
            let example = example(bucket, rows, excluded, model.len(), examples.len(), features);
            examples.push(example);
        }
    }

    /// Returns the weights that rank the examples best.
    pub(super) fn fit(&self) -> Fitted {
        let mut ndcg10 = [0.0; 2];
        let mut fit = |examples: &[Example], scenario: Scenario| {
            let all: Vec<&Example> = examples.iter().collect();
            let mut free = [true; FEATURES];
            if scenario == Scenario::Discover {
                free[OF_OWN].fill(false);
            }
            let softmax_fit = newton(&all, &[0.0; FEATURES], &free, PRIOR);
            let whole = ascend(&all, &softmax_fit, &free, WHOLE_RIDGE);
            let mut weights = [whole; BUCKETS];
            let mut sum = 0.0;
            for (at, weights) in weights.iter_mut().enumerate() {
                let own: Vec<&Example> = all.iter().copied().filter(|example| example.bucket == at).collect();
                // A bucket that is like the whole does best from its weights, another one from its own.
                let starts = [whole, newton(&own, &softmax_fit, &free, BUCKET_PRIOR)];
                let fits = starts.map(|start| ascend(&own, &start, &free, BUCKET_RIDGE));
                let gains = fits.map(|fit| own.par_iter().map(|example| ndcg(example, &fit)).sum::<f64>());
                let best = usize::from(gains[1] > gains[0]);
                *weights = fits[best];
                sum += gains[best];
            }
            ndcg10[scenario as usize] = sum / all.len().max(1) as f64;
            weights
        };
        let discover = fit(&self.novel, Scenario::Discover);
        let continuing = fit(&self.all, Scenario::Continue);
        Fitted { blend: Blend { by_scenario: [discover, continuing] }, ndcg10 }
    }
}

/// Returns the target, then the best by factor, by popularity and among the listed, without `excluded`.
fn candidates(
    model: &Model,
    target: Row,
    factor: &[f32],
    listed: &[Candidate],
    excluded: &HashSet<Row>,
    scenario: Scenario,
) -> Vec<Row> {
    let mut by_factor = TopK::new(CANDIDATES);
    let mut by_popularity = [(); HALF_LIVES].map(|()| TopK::new(CANDIDATES / 2));
    for (row, score) in factor.iter().enumerate() {
        let row = row as Row;
        if !excluded.contains(&row) {
            by_factor.offer(row, *score);
            let popularity = model.popularity_features(row);
            by_popularity.iter_mut().zip(popularity).for_each(|(top, value)| top.offer(row, value));
        }
    }
    let mut by_transition = TopK::new(2 * CANDIDATES);
    let mut rows: BTreeSet<Row> = BTreeSet::new();
    for (row, features) in listed.iter().filter(|(row, _)| !excluded.contains(row)) {
        by_transition.offer(*row, features[FORWARD] + 0.5 * features[BACKWARD]);
        if scenario == Scenario::Continue && features[OWNED] != 0.0 {
            rows.insert(*row);
        }
    }
    for part in by_popularity.into_iter().chain([by_factor, by_transition]) {
        rows.extend(part.into_sorted().into_iter().map(|item| item.row));
    }
    rows.remove(&target);
    std::iter::once(target).chain(rows).collect()
}

/// Adds a sample of the unlisted rows and reads the features of all.
fn example(
    bucket: usize,
    mut rows: Vec<Row>,
    excluded: &HashSet<Row>,
    n: usize,
    draw: usize,
    features: impl Fn(Row) -> Weights,
) -> Example {
    let listed = rows.len();
    let known: HashSet<Row> = rows.iter().copied().collect();
    let rest = n.saturating_sub(listed + excluded.len());
    // A low-discrepancy walk over the rows, begun elsewhere for each example.
    let step = (n as f64 * 0.618_033_988_749_895) as usize | 1;
    let mut at = draw.wrapping_mul(7919) % n.max(1);
    for _ in 0..SAMPLED.min(rest) {
        at = (at + step) % n;
        let row = at as Row;
        if !known.contains(&row) && !excluded.contains(&row) {
            rows.push(row);
        }
    }
    let rows_each = rest as f32 / (rows.len() - listed).max(1) as f32;
    Example { bucket, candidates: rows.into_iter().map(features).collect(), listed, rows_each }
}

/// Returns the score of a candidate, β·x.
fn score(x: &Weights, weights: &Weights) -> f32 {
    x.iter().zip(weights).map(|(x, weight)| x * weight).sum()
}

fn ndcg(example: &Example, weights: &Weights) -> f64 {
    let own = score(&example.candidates[0], weights);
    let above: f32 = (1..example.candidates.len())
        .filter(|candidate| score(&example.candidates[*candidate], weights) > own)
        .map(|candidate| example.stands_for(candidate))
        .sum();
    if above < 10.0 { 1.0 / (2.0 + f64::from(above)).log2() } else { 0.0 }
}

/// Weight of the prior at 0 of the likelihood's fit, in examples.
const PRIOR: f32 = 5.0;

/// Weight of the prior at that fit, for one bucket's.
const BUCKET_PRIOR: f32 = 50.0;

/// Ridge of the ascent for all buckets together towards the likelihood's fit.
const WHOLE_RIDGE: f32 = 10.0;

/// Ridge of the ascent for one bucket towards the weights of all together.
const BUCKET_RIDGE: f32 = 0.5;

/// The log-likelihood with its gradient and curvature (packed) of one or more examples.
#[derive(Clone)]
struct Likelihood {
    value: f64,
    gradient: Vec<f32>,
    curvature: Vec<f32>,
}

impl Likelihood {
    fn zero() -> Self {
        Self { value: 0.0, gradient: vec![0.0; FEATURES], curvature: vec![0.0; packed_len(FEATURES)] }
    }

    fn add(&mut self, other: &Self) {
        self.value += other.value;
        self.gradient.iter_mut().zip(&other.gradient).for_each(|(sum, value)| *sum += value);
        self.curvature.iter_mut().zip(&other.curvature).for_each(|(sum, value)| *sum += value);
    }

    fn observe(&mut self, example: &Example, weights: &Weights, probabilities: &mut Vec<f32>) {
        probabilities.clear();
        probabilities.extend(example.candidates.iter().map(|x| score(x, weights)));
        let own = probabilities[0];
        let largest = probabilities.iter().fold(f32::NEG_INFINITY, |largest, score| largest.max(*score));
        let mut total = 0.0;
        for (candidate, probability) in probabilities.iter_mut().enumerate() {
            *probability = (*probability - largest).exp() * example.stands_for(candidate);
            total += *probability;
        }
        self.value += f64::from(own - largest - total.ln());
        let mut mean = [0.0; FEATURES];
        for (x, unnormalised) in example.candidates.iter().zip(probabilities.iter()) {
            let probability = unnormalised / total;
            // A candidate this unlikely changes neither gradient nor curvature visibly.
            if probability > 1e-5 {
                mean.iter_mut().zip(x).for_each(|(mean, x)| *mean += probability * x);
                add_outer(&mut self.curvature, x, probability);
            }
        }
        add_outer(&mut self.curvature, &mean, -1.0);
        let target = example.candidates[0].iter().zip(&mean);
        self.gradient.iter_mut().zip(target).for_each(|(sum, (x, mean))| *sum += x - mean);
    }
}

/// Maximises the log-likelihood less a ridge of `prior_examples` towards `prior`, over the free weights.
fn newton(examples: &[&Example], prior: &Weights, free: &[bool; FEATURES], prior_examples: f32) -> Weights {
    const STEPS: usize = 15;
    let mut weights = *prior;
    if examples.is_empty() {
        return weights;
    }
    let sums = |weights: &Weights| {
        // Fixed blocks, added in order: the result does not depend on the number of threads.
        let blocks: Vec<Likelihood> = examples
            .par_chunks(256)
            .map(|block| {
                let mut sums = Likelihood::zero();
                let mut probabilities = Vec::new();
                block.iter().for_each(|example| sums.observe(example, weights, &mut probabilities));
                sums
            })
            .collect();
        let mut total = Likelihood::zero();
        blocks.iter().for_each(|block| total.add(block));
        for at in 0..FEATURES {
            let gap = prior[at] - weights[at];
            total.value -= 0.5 * f64::from(prior_examples * gap * gap);
            total.gradient[at] += prior_examples * gap;
            total.curvature[packed_len(at + 1) - 1] += prior_examples;
        }
        for at in (0..FEATURES).filter(|at| !free[*at]) {
            total.gradient[at] = 0.0;
            for other in 0..FEATURES {
                let (high, low) = (at.max(other), at.min(other));
                total.curvature[packed_len(high) + low] = if at == other { 1.0 } else { 0.0 };
            }
        }
        total
    };
    let mut solver = Solver::new(FEATURES);
    let mut current = sums(&weights);
    for _ in 0..STEPS {
        let Some(step) = solver.solve(&[(1.0, &current.curvature)], 1e-4, &current.gradient) else { break };
        let step: Vec<f32> = step.to_vec();
        let slope: f32 = step.iter().zip(&current.gradient).map(|(step, gradient)| step * gradient).sum();
        let mut length = 1.0;
        // Halve a step that overshoots.
        let next = loop {
            let mut candidate = weights;
            candidate.iter_mut().zip(&step).for_each(|(weight, step)| *weight += length * step);
            let next = sums(&candidate);
            if next.value >= current.value {
                weights = candidate;
                break Some(next);
            }
            length *= 0.5;
            if length < 1e-3 {
                break None;
            }
        };
        let Some(next) = next else { break };
        current = next;
        if slope < 1e-4 * examples.len() as f32 {
            break;
        }
    }
    weights
}

/// Spread of a pair's comparison in the smoothed rank, in units of the score (a choice; .6 and 1 rank
/// the held-out clicks as well, within the noise).
const TAU: f32 = 0.3;

/// Steps of the ascent and its first rate; the rate falls to 0. More steps fit better and rank worse.
const ASCENT_STEPS: usize = 100;
const ASCENT_RATE: f32 = 0.02;

/// Ascends the smoothed NDCG from `start`, with a ridge of `prior_examples` towards it, by Adam
/// (Kingma, Ba 2015, arXiv 1412.6980).
///
/// ```text
/// rank_t ≈ 1 + Σ_j sigmoid((s_j − s_t) / τ)        gain = 1 / log2(1 + rank_t)
/// ```
///
/// Qin, Liu, Li (2010), doi 10.1007/s10791-009-9124-x.
fn ascend(examples: &[&Example], start: &Weights, free: &[bool; FEATURES], prior_examples: f32) -> Weights {
    let mut weights = *start;
    if examples.is_empty() {
        return weights;
    }
    let n = examples.len() as f32;
    let (mut first, mut second) = ([0.0f32; FEATURES], [0.0f32; FEATURES]);
    for step in 1..=ASCENT_STEPS {
        let blocks: Vec<Weights> = examples
            .par_chunks(256)
            .map(|block| {
                let mut sum = [0.0; FEATURES];
                let mut scores = Vec::new();
                block.iter().for_each(|example| smooth_gradient(example, &weights, &mut scores, &mut sum));
                sum
            })
            .collect();
        let mut gradient = [0.0f32; FEATURES];
        for block in blocks {
            gradient.iter_mut().zip(block).for_each(|(sum, value)| *sum += value);
        }
        for at in (0..FEATURES).filter(|at| free[*at]) {
            let g = (gradient[at] + prior_examples * (start[at] - weights[at])) / n;
            first[at] = 0.9 * first[at] + 0.1 * g;
            second[at] = 0.99 * second[at] + 0.01 * g * g;
            let m = first[at] / (1.0 - 0.9f32.powi(step as i32));
            let v = second[at] / (1.0 - 0.99f32.powi(step as i32));
            let rate = ASCENT_RATE * (1.0 - (step - 1) as f32 / ASCENT_STEPS as f32);
            weights[at] += rate * m / (v.sqrt() + 1e-8);
        }
    }
    weights
}

fn smooth_gradient(example: &Example, weights: &Weights, scores: &mut Vec<f32>, sum: &mut Weights) {
    scores.clear();
    scores.extend(example.candidates.iter().map(|x| score(x, weights)));
    let own = scores[0];
    let mut rank = 1.0f32;
    for (at, score) in scores.iter_mut().enumerate().skip(1) {
        let above = 1.0 / (1.0 + (-(*score - own) / TAU).exp());
        let weight = example.stands_for(at);
        rank += weight * above;
        *score = weight * above * (1.0 - above) / TAU;
    }
    let log = (1.0 + rank).ln();
    let slope = -std::f32::consts::LN_2 / ((1.0 + rank) * log * log);
    let target = &example.candidates[0];
    let mut total = 0.0;
    for (x, pull) in example.candidates.iter().zip(scores.iter()).skip(1) {
        let pull = pull * slope;
        if pull.abs() > 1e-7 {
            total += pull;
            sum.iter_mut().zip(x).for_each(|(sum, x)| *sum += pull * x);
        }
    }
    sum.iter_mut().zip(target).for_each(|(sum, x)| *sum -= total * x);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// People choose what follows most strongly; popularity points elsewhere, and in bucket 1 the
    /// choice is by popularity alone.
    fn examples() -> Examples {
        let mut examples = Examples::default();
        for number in 0..600usize {
            let bucket = 1 + number % 2;
            let candidates = (0..12usize).map(|candidate| {
                let mut x = [0.0; FEATURES];
                let first = if candidate == 0 { 1.0 } else { 0.0 };
                let noise = ((number * 31 + candidate * 17) % 10) as f32 / 10.0;
                let (sign, other) = if bucket == 1 { (POPULARITY, FORWARD) } else { (FORWARD, POPULARITY) };
                x[sign] = first * 0.5 + noise * 0.5;
                x[other] = ((number * 13 + candidate * 7) % 10) as f32 / 10.0;
                x
            });
            let candidates: Vec<Weights> = candidates.collect();
            examples.novel.push(Example { bucket, candidates, listed: 12, rows_each: 1.0 });
        }
        examples
    }

    #[test]
    fn each_bucket_learns_what_its_people_go_by() {
        let fitted = examples().fit();
        let by_popularity = fitted.blend.by_scenario[0][1];
        let by_transition = fitted.blend.by_scenario[0][2];
        assert!(by_popularity[POPULARITY] > 2.0 * by_popularity[FORWARD].abs(), "{by_popularity:?}");
        assert!(by_transition[FORWARD] > 2.0 * by_transition[POPULARITY].abs(), "{by_transition:?}");
        assert!(fitted.ndcg10[0] > 0.8, "{:?}", fitted.ndcg10);
        assert!(fitted.blend.by_scenario[0][2][OF_OWN].iter().all(|weight| *weight == 0.0));
    }

    #[test]
    fn the_fit_does_not_depend_on_the_number_of_threads() {
        let fit = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| examples().fit().blend)
        };
        assert_eq!(fit(1), fit(3));
    }
}
