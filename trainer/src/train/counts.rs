//! Popularity and transitions: how they are counted over the training events, and how their settings
//! are chosen.

use super::Trial;
use super::descent::descend;
use super::ials;
use crate::evaluate::figures::Figures;
use crate::event_log::EventLog;
use crate::progress::Progress;
use nearfield_engine::limits::SESSION_GAP_MS;
use nearfield_engine::model::popularity::{BEST, ENTRIES, HALF_LIVES, decay};
use nearfield_engine::{Hyperparameters, Row};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Popularity and transitions of the training events, aged to their end.
pub(super) struct Counts {
    pub(super) popularity: Vec<[f64; HALF_LIVES]>,
    /// T to other rows, T from them, and recent T to them.
    pub(super) neighbours: Vec<BTreeMap<Row, [f64; 3]>>,
    /// Weight of all training events.
    pub(super) merged: f64,
}

/// Counts the first `until` events.
pub(super) fn count(log: &EventLog, until: usize, data: &ials::Data, hyper: &Hyperparameters) -> Counts {
    let events = &log.events[..until];
    let merged: f64 = events
        .iter()
        .filter(|event| event.kind.is_history())
        .map(|event| f64::from(hyper.kind(event.kind).weight))
        .sum();
    let mut counts = Counts {
        popularity: vec![[0.0; HALF_LIVES]; data.items.len()],
        neighbours: vec![BTreeMap::new(); data.items.len()],
        merged,
    };
    let settings = &hyper.transitions;
    let mut sessions: HashMap<u32, (u64, Vec<Row>)> = HashMap::new();
    let mut passed = 0.0;
    for event in events.iter().filter(|event| event.kind.is_history()) {
        let weights = hyper.kind(event.kind);
        passed += f64::from(weights.weight);
        let positive = f64::from(weights.weight * weights.target);
        let (last_ms, session) = sessions.entry(event.user).or_default();
        let mut starts_session = *last_ms == 0;
        if event.time_ms.saturating_sub(*last_ms) > SESSION_GAP_MS {
            session.clear();
            starts_session = true;
        }
        *last_ms = event.time_ms;
        if positive == 0.0 {
            continue;
        }
        let row = data.row(event.item);
        let starts = std::mem::take(&mut starts_session);
        for (at, count) in counts.popularity[row as usize].iter_mut().enumerate() {
            if at < ENTRIES || starts {
                *count += positive * decay(merged - passed, f64::from(hyper.popularity_half_lives[at]));
            }
        }
        let weight = f64::from(weights.weight);
        let kept = weight * decay(merged - passed, f64::from(settings.half_life));
        let fresh = weight * decay(merged - passed, f64::from(settings.fresh_half_life));
        let mut proximity = 1.0;
        for leader in session.iter().rev().take(usize::from(settings.reach)) {
            if *leader != row {
                let new = [proximity * kept, 0.0, proximity * fresh];
                let held = counts.neighbours[*leader as usize].entry(row).or_default();
                held.iter_mut().zip(new).for_each(|(held, new)| *held += new);
                let held = counts.neighbours[row as usize].entry(*leader).or_default();
                held.iter_mut().zip([0.0, proximity * kept, 0.0]).for_each(|(held, new)| *held += new);
            }
            proximity *= f64::from(settings.distance_decay);
        }
        session.push(row);
    }
    counts
}

/// Held-out events that judge a candidate of the counts at most, evenly drawn.
const JUDGES_MAX: usize = 6_000;

/// Chooses the settings of transitions and popularity.
pub(super) fn choose(
    log: &EventLog,
    fit_until: usize,
    until: usize,
    hyper: &mut Hyperparameters,
    progress: &dyn Progress,
    trials: &mut Vec<Trial>,
) {
    // Transitions and popularity are judged as they will be used: they keep learning from the held-out
    // events.
    descend(
        "transitions",
        hyper,
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
        hyper,
        &[(&[0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0], |hyper, value| {
            // The best single half-life follows trends; the blend weighs a faster and two slower ones
            // beside it.
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
    // Half-lives were searched as fractions of the training events.
    if hyper.transitions.half_life < 10.0 {
        hyper.transitions.half_life *= until as f32;
    }
    hyper.popularity_half_lives = hyper.popularity_half_lives.map(|half_life| half_life * until as f32);

    // What follows an item changes more slowly than what is popular.
    hyper.transitions.fresh_half_life = 4.0 * hyper.popularity_half_lives[BEST];
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
        if !hyper.is_target(event.kind) {
            continue;
        }
        let (last_ms, session, history) = people.entry(event.user).or_default();
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
                let mut recency = 1.0;
                for leader in history.iter().rev().take(usize::from(settings.recent)) {
                    let total = totals[*leader as usize] + f64::from(settings.shrinkage) * unit;
                    for (follower, weight) in &followers[*leader as usize] {
                        *scores.entry(*follower).or_insert(0.0) += recency * weight / total;
                    }
                    recency *= f64::from(settings.recent_decay);
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
        if event.time_ms.saturating_sub(*last_ms) > SESSION_GAP_MS {
            session.clear();
        }
        *last_ms = event.time_ms;
        if part == Part::Transitions {
            let mut pair = f64::from(weights.weight) * unit;
            for leader in session.iter().rev().take(usize::from(settings.reach)) {
                if *leader != event.item {
                    *followers[*leader as usize].entry(event.item).or_insert(0.0) += pair;
                    totals[*leader as usize] += pair;
                }
                pair *= f64::from(settings.distance_decay);
            }
        }
        session.push(event.item);
        history.push(event.item);
    }
    ndcg(ranks)
}
