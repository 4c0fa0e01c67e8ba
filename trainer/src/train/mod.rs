//! The offline trainer: implicit ALS, with every hyperparameter chosen on held-out time.
//!
//! ```text
//! p_u = (α0 G + Σ_i w q_i q_iᵀ + λ (h_u + α0 n) I)⁻¹ Σ_i w t q_i       each person
//! q_i = (α0 C + Σ_u w p_u p_uᵀ + λ (N_i + α0 m) I)⁻¹ Σ_u w t p_u       each item
//! ```
//!
//! Hu, Koren, Volinsky (2008), doi 10.1109/ICDM.2008.22, as revisited by Rendle et al. (2021).
//!
//! The search: a fifth of the training events is held out (`held_out.rs`). α0, λ, d, the number of
//! sweeps, ρ and κ are chosen by how candidates rank the held-out events by fold-in alone
//! (`factors.rs`); then transitions and half-lives by coordinate descent; last
//! the blend, by a listwise softmax over what a replay through the product's own path saw. The final
//! model is trained on all training events with what was chosen.

mod blend;
mod counts;
mod dense;
mod factors;
mod held_out;
mod ials;

use crate::event_log::EventLog;
use crate::progress::Progress;
use nearfield_engine::ids::{Lineage, Row, short_hash};
use nearfield_engine::merge::{Pair, Statistics, TrainedRow, TrainedSums};
use nearfield_engine::model::Model;
use nearfield_engine::model::hyper::{Bounds, Hyperparameters};
use nearfield_engine::model::popularity::{ENTRIES, HALF_LIVES, decay};
use nearfield_engine::model::transitions::neighbours_for_budget;
use nearfield_engine::person::SITTING_GAP_MS;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

/// What a caller may decide; everything else is chosen from the events.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Options {
    /// d, the number of factors, 1 to 512 (default: chosen on held-out events, up to what the
    /// pack's byte budget allows). Larger follows finer tastes, and costs bytes and time.
    pub dim: Option<usize>,
    /// Sweeps of the final training (default: chosen on held-out events).
    pub sweeps: Option<usize>,
    /// Name of the new lineage; without one it follows from the events, and training on the same
    /// events again gives the same name. A service that publishes wants a random one.
    pub lineage: Option<Lineage>,
}

/// Why a training was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrainError {
    /// Too little to hold anything out of.
    TooFewEvents {
        /// Events given.
        found: usize,
        /// Events needed.
        needed: usize,
    },
    /// The number of factors is out of range.
    Dim {
        /// Factors asked for.
        found: usize,
    },
}

impl fmt::Display for TrainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooFewEvents { found, needed } => {
                write!(f, "training has {found} events, at least {needed} are needed")
            }
            Self::Dim { found } => write!(f, "dim is {found}, the range is 1 to 512"),
        }
    }
}

impl std::error::Error for TrainError {}

/// Fewest events that a training takes.
pub const EVENTS_MIN: usize = 100;

/// One candidate of the search and how it did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Trial {
    /// What was being chosen.
    pub stage: &'static str,
    /// The candidate.
    pub candidate: String,
    /// NDCG@10 on the held-out events.
    pub ndcg10: f64,
}

/// What the search chose, and from what.
#[derive(Clone, Debug, Serialize)]
pub struct TrainReport {
    /// Training events, people, items.
    pub events: usize,
    /// People among them.
    pub users: usize,
    /// Items among them.
    pub items: usize,
    /// d, as chosen or asked for.
    pub dim: usize,
    /// Sweeps of the final training, as chosen or asked for.
    pub sweeps: usize,
    /// Every candidate.
    pub trials: Vec<Trial>,
    /// What was chosen.
    pub chosen: Hyperparameters,
}

/// A trained model, its private statistics, and how they came about.
#[derive(Debug)]
pub struct Trained {
    /// The public part, version 1.
    pub model: Model,
    /// The private part.
    pub statistics: Statistics,
    /// The search.
    pub report: TrainReport,
}

/// Trains on the first `until` events of the log; nothing after them is looked at.
///
/// # Errors
/// [`TrainError`] for too few events or a number of factors out of range.
pub fn train(
    log: &EventLog,
    until: usize,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Trained, TrainError> {
    if until < EVENTS_MIN {
        return Err(TrainError::TooFewEvents { found: until, needed: EVENTS_MIN });
    }
    if let Some(found) = options.dim.filter(|dim| !(1..=nearfield_engine::model::DIM_MAX).contains(dim)) {
        return Err(TrainError::Dim { found });
    }
    let mut trials = Vec::new();
    let (chosen, shape) = counts::choose(log, until, options, progress, &mut trials);
    let (model, statistics) = fit(log, until, shape, options.lineage, &chosen, progress);
    let users =
        log.events[..until].iter().map(|event| event.user).collect::<std::collections::HashSet<_>>().len();
    let report = TrainReport {
        events: until,
        users,
        items: model.len(),
        dim: shape.dim,
        sweeps: shape.sweeps,
        trials,
        chosen: model.hyperparameters().clone(),
    };
    Ok(Trained { model, statistics, report })
}

/// How many factors, and how often they are solved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) dim: usize,
    pub(crate) sweeps: usize,
}

/// Trains with given hyperparameters.
pub(crate) fn fit(
    log: &EventLog,
    until: usize,
    shape: Shape,
    lineage: Option<Lineage>,
    hyper: &Hyperparameters,
    progress: &dyn Progress,
) -> (Model, Statistics) {
    let data = ials::Data::new(log, until, hyper);
    progress.stage("factors", shape.sweeps as u64);
    let mut factors = ials::Factors::new(&data, shape.dim);
    for _ in 0..shape.sweeps {
        factors.sweep(&data, hyper.alpha, hyper.lambda);
        progress.advance(1);
    }
    assemble(log, until, &data, &factors, hyper, lineage)
}

/// Turns trained factors into statistics and the first version.
pub(crate) fn assemble(
    log: &EventLog,
    until: usize,
    data: &ials::Data,
    factors: &ials::Factors,
    hyper: &Hyperparameters,
    lineage: Option<Lineage>,
) -> (Model, Statistics) {
    let dim = factors.dim;
    let mut hyper = hyper.clone();
    let norm = |p: &[f32]| p.iter().map(|x| x * x).sum::<f32>().sqrt();
    let largest = factors.users.chunks_exact(dim).map(norm).fold(0.0, f32::max);
    hyper.bounds = Bounds { factor_norm_max: (2.0 * largest).clamp(0.1, 64.0), ..hyper.bounds };

    let id_bytes: usize = data.items.iter().map(|item| log.items[*item as usize].len() + 1).sum();
    let neighbours_max = neighbours_for_budget(dim, id_bytes / data.items.len().max(1));
    let lineage = lineage.unwrap_or_else(|| name_of(log, until));
    let mut statistics = Statistics::new(lineage, dim, neighbours_max, hyper.clone());
    let order = falling_norms(factors);
    for item in order.iter().map(|place| data.items[*place]) {
        // Ids were checked when the file was read; equal keys of different ids are 2⁻⁶⁴ apart.
        statistics.register(&log.items[item as usize]).expect("ids of an event log are sound");
    }
    let counts = count(log, until, data, &hyper);
    let equations = factors.item_equations(data);
    let merged = counts.merged;
    let mut row_of = vec![0; order.len()];
    for (row, place) in order.iter().enumerate() {
        row_of[*place] = row as Row;
    }
    let mut rows: Vec<(Row, TrainedRow)> = equations
        .into_iter()
        .zip(counts.popularity)
        .zip(counts.neighbours)
        .zip(&row_of)
        .map(|(((equations, popularity), neighbours), row)| {
            let mut neighbours: Vec<Pair> = neighbours
                .into_iter()
                .map(|(place, sums)| Pair { row: row_of[place as usize], sums: sums.map(|sum| sum as f32) })
                .collect();
            neighbours.sort_unstable_by_key(|pair| pair.row);
            let mut totals = [0.0; 3];
            for pair in &neighbours {
                totals.iter_mut().zip(pair.sums).for_each(|(total, sum)| *total += sum);
            }
            (*row, TrainedRow { equations, popularity, neighbours, totals })
        })
        .collect();
    rows.sort_unstable_by_key(|(row, _)| *row);
    let rows = rows.into_iter().map(|(_, row)| row).collect();
    let (c, m) = factors.user_gram();
    statistics.set_trained(TrainedSums { rows, c, m, merged });
    let model = statistics.publish_trained();
    (model, statistics)
}

/// Returns the items of a training in falling order of the norm of their rows: in that order they
/// become rows of the model, so that ranking, which goes by the norms of blocks, reads few of them.
fn falling_norms(factors: &ials::Factors) -> Vec<usize> {
    let norms: Vec<f32> =
        factors.items.chunks_exact(factors.dim).map(|q| q.iter().map(|x| x * x).sum()).collect();
    let mut order: Vec<usize> = (0..norms.len()).collect();
    order.sort_by(|a, b| norms[*b].total_cmp(&norms[*a]));
    order
}

/// Names a lineage by the events that it was trained on.
fn name_of(log: &EventLog, until: usize) -> Lineage {
    let numbers = log.events[..until]
        .iter()
        .flat_map(|event| [u64::from(event.user), u64::from(event.item), event.time_ms])
        .flat_map(u64::to_le_bytes);
    Lineage(short_hash(&numbers.collect::<Vec<u8>>()))
}

/// Popularity and transitions of the training events, aged to their end.
struct Counts {
    popularity: Vec<[f64; HALF_LIVES]>,
    /// T to other rows, from them, and to them of late.
    neighbours: Vec<BTreeMap<Row, [f64; 3]>>,
    merged: f64,
}

fn count(log: &EventLog, until: usize, data: &ials::Data, hyper: &Hyperparameters) -> Counts {
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
    let mut sittings: HashMap<u32, (u64, Vec<Row>)> = HashMap::new();
    let mut passed = 0.0;
    for event in events.iter().filter(|event| event.kind.is_history()) {
        let weights = hyper.kind(event.kind);
        passed += f64::from(weights.weight);
        let wanted = f64::from(weights.weight * weights.target);
        let (last_ms, sitting) = sittings.entry(event.user).or_default();
        let mut begins_sitting = *last_ms == 0;
        if event.time_ms.saturating_sub(*last_ms) > SITTING_GAP_MS {
            sitting.clear();
            begins_sitting = true;
        }
        *last_ms = event.time_ms;
        if wanted == 0.0 {
            continue;
        }
        let row = data.row(event.item);
        let begins = std::mem::take(&mut begins_sitting);
        for (at, count) in counts.popularity[row as usize].iter_mut().enumerate() {
            if at < ENTRIES || begins {
                *count += wanted * decay(merged - passed, f64::from(hyper.popularity_half_lives[at]));
            }
        }
        let weight = f64::from(weights.weight);
        let kept = weight * decay(merged - passed, f64::from(settings.half_life));
        let fresh = weight * decay(merged - passed, f64::from(settings.fresh_half_life));
        let mut share = 1.0;
        for leader in sitting.iter().rev().take(usize::from(settings.reach)) {
            if *leader != row {
                let new = [share * kept, 0.0, share * fresh];
                let held = counts.neighbours[*leader as usize].entry(row).or_default();
                held.iter_mut().zip(new).for_each(|(held, new)| *held += new);
                let held = counts.neighbours[row as usize].entry(*leader).or_default();
                held.iter_mut().zip([0.0, share * kept, 0.0]).for_each(|(held, new)| *held += new);
            }
            share *= f64::from(settings.distance_decay);
        }
        sitting.push(row);
    }
    counts
}

/// Two rounds of a multiplicative hash (the finaliser of SplitMix64, Steele, Lea, Flood 2014, doi
/// 10.1145/2660193.2660195): uniform enough for starting points and for drawing what is held out.
fn hash(number: u64) -> u64 {
    let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb)
}
