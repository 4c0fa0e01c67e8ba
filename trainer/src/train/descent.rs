//! Coordinate descent over hyperparameters, each candidate judged on held-out events.

use super::Trial;
use crate::progress::Progress;
use nearfield_engine::Hyperparameters;
use rayon::prelude::*;

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
