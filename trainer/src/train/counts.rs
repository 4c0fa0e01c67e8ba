//! The search for hyperparameters, on held-out events.

use super::{Options, Shape, Trial, assemble, blend, factors, held_out, ials};
use crate::evaluate::{Figures, Flow, Moment, Replay};
use crate::event_log::EventLog;
use crate::progress::Progress;
use nearfield_engine::model::hyper::Hyperparameters;
use nearfield_engine::model::popularity::BEST;
use rayon::prelude::*;
use std::collections::{HashMap, HashSet};

/// Held-out events that judge a candidate of the counts at most, evenly drawn.
const JUDGES_MAX: usize = 6_000;

/// Held-out moments that the blend is fitted on at most, evenly drawn.
const EXAMPLES_MAX: usize = 20_000;

/// Chooses everything for the first `until` events.
pub(super) fn choose(
    log: &EventLog,
    until: usize,
    options: &Options,
    progress: &dyn Progress,
    trials: &mut Vec<Trial>,
) -> (Hyperparameters, Shape) {
    let mut hyper = Hyperparameters::starting_point();
    let (log, fit_until) = held_out::split(log, until);
    let log = &*log;
    let factors::Found { shape, data, factors } =
        factors::choose(log, fit_until, until, options, &mut hyper, progress, trials);

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
            // The best single half-life follows trends; the blend wants a faster and two slower ones
            // beside it, and weighs them.
            hyper.popularity_half_lives = [value / 4.0, value, value * 4.0, value * 32.0, value * 4.0];
        })],
        progress,
        trials,
        |candidate| {
            let mut candidate = candidate.clone();
            candidate.popularity_half_lives[BEST] *= until as f32;
            judge_counts(log, fit_until, until, &candidate, Part::Popularity)
        },
    );
    // Half-lives were searched as shares of the training events.
    if hyper.transitions.half_life < 10.0 {
        hyper.transitions.half_life *= until as f32;
    }
    hyper.popularity_half_lives = hyper.popularity_half_lives.map(|half_life| half_life * until as f32);

    // What follows changes more slowly than what is asked for.
    hyper.transitions.fresh_half_life = 4.0 * hyper.popularity_half_lives[BEST];

    fit_blend(log, fit_until, until, &data, factors, &mut hyper, progress, trials);
    (hyper, shape)
}

/// One coordinate of a descent: the values to try, and where they go.
pub(super) type Coordinate<'a> = (&'a [f32], fn(&mut Hyperparameters, f32));

/// Tries each coordinate's values in turn, keeping the best, until a round changes nothing (two
/// rounds at most).
pub(super) fn descend(
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
    let half_life = f64::from(if part == Part::Popularity {
        hyper.popularity_half_lives[BEST]
    } else {
        settings.half_life
    });
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
        if event.time_ms.saturating_sub(*last_ms) > nearfield_engine::person::SITTING_GAP_MS {
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
