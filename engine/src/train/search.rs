//! The search for hyperparameters, on held-out time.

use super::{Options, Progress, Trial, assemble, blend, ials};
use crate::evaluate::{Figures, Flow, Moment, Replay, rank};
use crate::event_log::EventLog;
use crate::fold_in::{NormalEquations, Solver};
use crate::hyper::Hyperparameters;
use crate::ids::Row;
use rayon::prelude::*;
use std::collections::{HashMap, HashSet};

/// Share of the training events that candidates learn from; the rest judges them.
const FIT_SHARE: f64 = 0.75;

/// Held-out events that judge a candidate at most, evenly drawn.
const JUDGES_MAX: usize = 6_000;

/// Held-out moments that the blend is fitted on at most, evenly drawn.
const EXAMPLES_MAX: usize = 20_000;

/// A held-out moment: what the person had touched, oldest first, and what came next.
struct Judge {
    history: Vec<(Row, f32, f32)>,
    touched: HashSet<Row>,
    target: Row,
}

/// Chooses everything for the first `until` events.
pub(super) fn choose(
    log: &EventLog,
    until: usize,
    options: &Options,
    progress: &dyn Progress,
    trials: &mut Vec<Trial>,
) -> Hyperparameters {
    let mut hyper = Hyperparameters::starting_point();
    let fit_until = ((until as f64 * FIT_SHARE) as usize).max(1);
    let data = ials::Data::new(log, fit_until, &hyper);
    let judges = judges(log, fit_until, until, &data, &hyper);
    let dim = options.dim;

    progress.stage("alpha and lambda", 12);
    let train = |hyper: &Hyperparameters| {
        let mut factors = ials::Factors::new(&data, dim);
        for _ in 0..options.search_sweeps {
            factors.sweep(&data, hyper.alpha, hyper.lambda);
        }
        factors
    };
    let alphas = [1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 3e-4, 1e-4];
    let lambdas = [0.3, 0.1, 0.03, 0.01, 0.003, 0.001];
    let mut seen: HashMap<(usize, usize), f64> = HashMap::new();
    let mut best = (5, 2);
    let mut best_factors = None;
    let mut best_figure = f64::NEG_INFINITY;
    // Descent over the grid: from the middle to the best neighbour, until none is better.
    let mut frontier = vec![best, (3, 2), (7, 2)];
    while !frontier.is_empty() {
        for (a, l) in std::mem::take(&mut frontier) {
            let candidate = Hyperparameters { alpha: alphas[a], lambda: lambdas[l], ..hyper.clone() };
            let factors = train(&candidate);
            let figure = judge_factors(&judges, &factors, &candidate);
            progress.advance(1);
            seen.insert((a, l), figure);
            trials.push(Trial {
                stage: "alpha and lambda",
                candidate: format!("alpha {}, lambda {}", alphas[a], lambdas[l]),
                ndcg10: figure,
            });
            if figure > best_figure {
                (best, best_figure, best_factors) = ((a, l), figure, Some(factors));
            }
        }
        let (a, l) = best;
        let around = [(a.wrapping_sub(1), l), (a + 1, l), (a, l.wrapping_sub(1)), (a, l + 1)];
        frontier.extend(
            around
                .into_iter()
                .filter(|(a, l)| *a < alphas.len() && *l < lambdas.len() && !seen.contains_key(&(*a, *l))),
        );
    }
    (hyper.alpha, hyper.lambda) = (alphas[best.0], lambdas[best.1]);
    let factors = best_factors.unwrap_or_else(|| train(&hyper));

    descend(
        "recency",
        &mut hyper,
        &[
            (&[0.3, 0.5, 0.7, 0.85, 0.95, 0.98], |hyper, value| hyper.recent_decay = value),
            (&[0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0], |hyper, value| hyper.recent_weight = value),
        ],
        progress,
        trials,
        |hyper| judge_factors(&judges, &factors, hyper),
    );

    // Transitions and popularity are judged as they live: learned on from the held-out events.
    descend(
        "transitions",
        &mut hyper,
        &[
            (&[1.0, 2.0, 5.0, 10.0, 20.0], |hyper, value| hyper.transitions.reach = value as u8),
            (&[4.0, 8.0, 20.0], |hyper, value| hyper.transitions.recent = value as u8),
            (&[0.4, 0.6, 0.8, 0.95], |hyper, value| hyper.transitions.distance_decay = value),
            (&[0.2, 0.4, 0.6, 0.8, 0.95], |hyper, value| hyper.transitions.recent_decay = value),
            (&[0.0, 0.5, 2.0, 8.0, 32.0], |hyper, value| hyper.transitions.shrinkage = value),
            (&[0.15, 0.5, 2.0], |hyper, value| hyper.transitions.half_life = value),
        ],
        progress,
        trials,
        |candidate| {
            let mut candidate = candidate.clone();
            if candidate.transitions.half_life < 10.0 {
                candidate.transitions.half_life *= until as f32;
            }
            judge_counts(log, fit_until, until, &candidate, Part::Transitions)
        },
    );
    descend(
        "popularity",
        &mut hyper,
        &[(&[0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0], |hyper, value| {
            // A ladder around the best single half-life: the blend weighs its rungs.
            hyper.popularity_half_lives = [value / 16.0, value / 4.0, value, value * 8.0, value];
        })],
        progress,
        trials,
        |candidate| {
            let mut candidate = candidate.clone();
            candidate.popularity_half_lives[2] *= until as f32;
            judge_counts(log, fit_until, until, &candidate, Part::Popularity)
        },
    );
    // Half-lives were searched as shares of the training events.
    if hyper.transitions.half_life < 10.0 {
        hyper.transitions.half_life *= until as f32;
    }
    hyper.popularity_half_lives = hyper.popularity_half_lives.map(|half_life| half_life * until as f32);

    // What is asked for of late is told by popularity's half-life; so is what follows of late.
    hyper.transitions.fresh_half_life = hyper.popularity_half_lives[2];

    fit_blend(log, fit_until, until, &data, factors, &mut hyper, progress, trials);
    hyper
}

/// One coordinate of a descent: the values to try, and where they go.
type Coordinate<'a> = (&'a [f32], fn(&mut Hyperparameters, f32));

/// Tries each coordinate's values in turn, keeping the best, until a round changes nothing (two
/// rounds at most).
fn descend(
    stage: &'static str,
    hyper: &mut Hyperparameters,
    coordinates: &[Coordinate<'_>],
    progress: &dyn Progress,
    trials: &mut Vec<Trial>,
    judge: impl Fn(&Hyperparameters) -> f64 + Sync,
) {
    let rounds = if coordinates.len() > 1 { 2 } else { 1 };
    let total: usize = coordinates.iter().map(|(values, _)| values.len()).sum();
    progress.stage(stage, (total * rounds) as u64);
    let mut best_figure = f64::NEG_INFINITY;
    for _ in 0..rounds {
        let before = hyper.clone();
        for (values, set) in coordinates {
            let figures: Vec<(Hyperparameters, f32, f64)> = values
                .par_iter()
                .map(|value| {
                    let mut candidate = hyper.clone();
                    set(&mut candidate, *value);
                    let figure = judge(&candidate);
                    progress.advance(1);
                    (candidate, *value, figure)
                })
                .collect();
            for (candidate, value, figure) in figures {
                trials.push(Trial { stage, candidate: value.to_string(), ndcg10: figure });
                if figure > best_figure {
                    best_figure = figure;
                    *hyper = candidate;
                }
            }
        }
        if *hyper == before {
            break;
        }
    }
}

fn judges(
    log: &EventLog,
    fit_until: usize,
    until: usize,
    data: &ials::Data,
    hyper: &Hyperparameters,
) -> Vec<Judge> {
    let mut histories: HashMap<u32, Vec<(Row, f32, f32)>> = HashMap::new();
    let mut judges = Vec::new();
    let every = ((until - fit_until) / JUDGES_MAX).max(1);
    for (index, event) in log.events[..until].iter().enumerate() {
        let history = histories.entry(event.user).or_default();
        let Some(row) = data.known_row(event.item) else { continue };
        let novel = history.iter().all(|(touched, ..)| *touched != row);
        if index >= fit_until && index % every == 0 && novel && !history.is_empty() {
            let touched = history.iter().map(|(row, ..)| *row).collect();
            judges.push(Judge { history: history.clone(), touched, target: row });
        }
        let weights = hyper.kind(event.kind);
        if event.kind.is_history() {
            history.push((row, weights.weight, weights.target));
        }
    }
    judges
}

/// Returns NDCG@10 of the fold-in alone.
fn judge_factors(judges: &[Judge], factors: &ials::Factors, hyper: &Hyperparameters) -> f64 {
    let dim = factors.dim;
    let gram = ials::gram(&factors.items, dim);
    let n = (factors.items.len() / dim) as f32;
    let ranks: Vec<f64> = judges
        .par_iter()
        .map_init(
            || (Solver::new(dim), NormalEquations::new(dim), NormalEquations::new(dim)),
            |(solver, whole, recent), judge| {
                whole.clear();
                recent.clear();
                let start = judge.history.len().saturating_sub(crate::user_state::HISTORY_MAX);
                let mut share = 1.0;
                for (row, weight, target) in judge.history[start..].iter().rev() {
                    let q = &factors.items[*row as usize * dim..][..dim];
                    whole.add(q, *weight, *target);
                    if share > 1e-3 {
                        recent.add(q, share * weight, *target);
                    }
                    share *= hyper.recent_decay;
                }
                let mut b = whole.b.clone();
                crate::fold_in::add_scaled(&mut b, &recent.b, hyper.recent_weight);
                let parts = [(hyper.alpha, &gram[..]), (1.0, &whole.a), (hyper.recent_weight, &recent.a)];
                let ridge = hyper.lambda * (whole.h + hyper.alpha * n);
                let Some(p) = solver.solve(&parts, ridge, &b) else { return f64::INFINITY };
                let scores: Vec<f32> = factors
                    .items
                    .chunks_exact(dim)
                    .map(|q| p.iter().zip(q).map(|(p, q)| p * q).sum())
                    .collect();
                rank(&scores, judge.target, judge.touched.iter().copied())
            },
        )
        .collect();
    ndcg(ranks)
}

fn ndcg(ranks: impl IntoIterator<Item = f64>) -> f64 {
    let mut figures = Figures::default();
    ranks.into_iter().for_each(|rank| figures.add(Some(rank)));
    figures.mean().ndcg10
}

#[derive(Clone, Copy, PartialEq)]
enum Part {
    Transitions,
    Popularity,
}

/// Returns NDCG@10 of counts alone, learned event by event: what a fleet that syncs at once would
/// know. Cheap enough to try many settings.
fn judge_counts(log: &EventLog, fit_until: usize, until: usize, hyper: &Hyperparameters, part: Part) -> f64 {
    let settings = &hyper.transitions;
    let half_life =
        f64::from(if part == Part::Popularity { hyper.popularity_half_lives[2] } else { settings.half_life });
    // Growing units instead of shrinking counts: the ranking is the same.
    let (mut unit, growth) = (1.0f64, 2f64.powf(1.0 / half_life));
    let mut popularity = vec![0.0f64; log.items.len()];
    let mut followers: Vec<HashMap<u32, f64>> = vec![HashMap::new(); log.items.len()];
    let mut totals = vec![0.0f64; log.items.len()];
    let mut people: HashMap<u32, (u64, Vec<u32>, Vec<u32>)> = HashMap::new();
    let mut ranks = Vec::new();
    let every = ((until - fit_until) / JUDGES_MAX).max(1);
    let mut scores: HashMap<u32, f64> = HashMap::new();
    for (index, event) in log.events[..until].iter().enumerate() {
        let weights = hyper.kind(event.kind);
        if weights.target == 0.0 || weights.weight == 0.0 || !event.kind.is_history() {
            continue;
        }
        let (last_ms, sitting, history) = people.entry(event.user).or_default();
        let novel = !history.contains(&event.item);
        if index >= fit_until && index % every == 0 && novel {
            if part == Part::Popularity {
                let own = popularity[event.item as usize];
                let above = popularity.iter().filter(|count| **count > own).count();
                let touched = history.iter().collect::<HashSet<_>>();
                let excluded = touched.iter().filter(|item| popularity[***item as usize] > own).count();
                ranks.push(if own > 0.0 { 1.0 + (above - excluded) as f64 } else { f64::INFINITY });
            } else if !history.is_empty() {
                scores.clear();
                let mut share = 1.0;
                for leader in history.iter().rev().take(usize::from(settings.recent)) {
                    let total = totals[*leader as usize] + f64::from(settings.shrinkage) * unit;
                    for (follower, weight) in &followers[*leader as usize] {
                        *scores.entry(*follower).or_insert(0.0) += share * weight / total;
                    }
                    share *= f64::from(settings.recent_decay);
                }
                let rank = scores.get(&event.item).map_or(f64::INFINITY, |own| {
                    let above =
                        scores.iter().filter(|(item, score)| *score > own && !history.contains(item)).count();
                    1.0 + above as f64
                });
                ranks.push(rank);
            }
        }
        unit *= growth.powf(f64::from(weights.weight));
        popularity[event.item as usize] += f64::from(weights.weight) * unit;
        if event.time_ms.saturating_sub(*last_ms) > crate::user_state::SITTING_GAP_MS {
            sitting.clear();
        }
        *last_ms = event.time_ms;
        if part == Part::Transitions {
            let mut share = f64::from(weights.weight) * unit;
            for leader in sitting.iter().rev().take(usize::from(settings.reach)) {
                if *leader != event.item {
                    *followers[*leader as usize].entry(event.item).or_insert(0.0) += share;
                    totals[*leader as usize] += share;
                }
                share *= f64::from(settings.distance_decay);
            }
        }
        sitting.push(event.item);
        history.push(event.item);
    }
    ndcg(ranks)
}

/// Fits the blend on a replay of the held-out events through the product's own path.
#[expect(clippy::too_many_arguments, reason = "one call site, each argument a different thing")]
fn fit_blend(
    log: &EventLog,
    fit_until: usize,
    until: usize,
    data: &ials::Data,
    mut factors: ials::Factors,
    hyper: &mut Hyperparameters,
    progress: &dyn Progress,
    trials: &mut Vec<Trial>,
) {
    factors.solve_users(data, hyper.alpha, hyper.lambda);
    let (model, statistics) = assemble(log, fit_until, data, &factors, hyper, None);
    let mut replay = Replay::new(log, fit_until, model, statistics, Flow::default());
    progress.stage("blend", (until - fit_until) as u64);
    let mut examples = blend::Examples::default();
    let every = (until - fit_until).div_ceil(EXAMPLES_MAX);
    let mut place = 0;
    replay.run(fit_until..until, |moment| {
        progress.advance(1);
        place += 1;
        let Moment { person, model, target, touched, novel, history } = moment;
        if let Some(target) = target.filter(|_| place % every == 0) {
            examples.observe(person, model, target, touched, novel, history);
        }
    });
    let fitted = examples.fit();
    for (scenario, figure) in ["discover", "continue"].into_iter().zip(fitted.ndcg10) {
        trials.push(Trial { stage: "blend", candidate: scenario.to_owned(), ndcg10: figure });
    }
    hyper.blend = fitted.blend;
}
