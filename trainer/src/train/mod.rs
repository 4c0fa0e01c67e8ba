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

mod assemble;
mod blend;
mod counts;
mod dense;
mod descent;
mod factors;
mod given;
mod held_out;
mod ials;
mod order;
mod solve;
pub mod sweeps;

use crate::event_log::EventLog;
use crate::progress::Progress;
use crate::replay::{Flow, Replay};
use assemble::assemble;
pub use given::Given;
use nearfield_engine::limits::DIM_MAX;
use nearfield_engine::{Hyperparameters, Lineage, Model, Statistics};
use serde::Serialize;
use std::fmt;

/// What a caller may decide; everything else is chosen from the events.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// d, the number of factors, 1 to 512 (default: chosen on held-out events, up to what the
    /// pack's byte budget allows). Larger follows finer tastes, and costs bytes and time.
    pub dim: Option<usize>,
    /// Sweeps of the final training (default: chosen on held-out events).
    pub sweeps: Option<usize>,
    /// Name of the new lineage; without one it is derived from the events, so that training on
    /// the same events again gives the same name. A service that publishes wants a random one.
    pub lineage: Option<Lineage>,
    /// Item factors that were trained elsewhere, in the place of sweeps; `dim` and `sweeps` are theirs then. The
    /// published rows are those half a sweep later: solved against the people, who are solved against what was given.
    pub given: Option<Given>,
}

/// Why a training was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// A factor that was given cannot be used.
    Given {
        /// Its item.
        item: String,
        /// What is wrong with it.
        what: String,
    },
    /// No item of the events is among those whose factors were given.
    Strangers {
        /// An item of the events.
        item: String,
    },
}

impl fmt::Display for TrainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooFewEvents { found, needed } => {
                write!(f, "training has {found} events, at least {needed} are needed")
            }
            Self::Given { item, what } => write!(f, "the factor of {item:?} {what}"),
            Self::Strangers { item } => {
                write!(f, "no item of the events has a factor; one of them is {item:?}")
            }
            Self::Dim { found } => write!(f, "dim is {found}, the range is 1 to 512"),
        }
    }
}

impl std::error::Error for TrainError {}

/// Fewest events that a training takes.
pub const EVENTS_MIN: usize = 100;

/// One candidate of the search and its figure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Trial {
    /// What was being chosen.
    pub stage: &'static str,
    /// The candidate.
    pub candidate: String,
    /// NDCG@10 on the held-out events.
    pub ndcg10: f64,
}

/// One sweep over the events that are not held out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Sweep {
    /// Its number, from 1.
    pub sweep: usize,
    /// The loss after it, by pair of a person and an item.
    pub loss: f64,
    /// The figure on the held-out events: NDCG@10 of the event that comes, or NDCG@100 where events have no
    /// times.
    pub ndcg: f64,
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
    /// Every sweep with what was chosen, until neither loss nor figure moved.
    pub held_out_sweeps: Vec<Sweep>,
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

/// Trains on the first `until` events of the log; later events are not read.
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
    if let Some(found) = options.dim.filter(|dim| !(1..=DIM_MAX).contains(dim)) {
        return Err(TrainError::Dim { found });
    }
    if let Some(given) = &options.given {
        let mut items = log.events[..until].iter().map(|event| &log.items[event.item as usize]);
        if !items.any(|item| given.has(item)) {
            let item = log.items[log.events[0].item as usize].clone();
            return Err(TrainError::Strangers { item });
        }
    }
    let mut trials = Vec::new();
    let (chosen, shape, held_out_sweeps) = choose(log, until, options, progress, &mut trials);
    let (model, statistics) = fit(log, until, shape, options, &chosen, progress);
    let users =
        log.events[..until].iter().map(|event| event.user).collect::<std::collections::HashSet<_>>().len();
    let report = TrainReport {
        events: until,
        users,
        items: model.len(),
        dim: shape.dim,
        sweeps: shape.sweeps,
        trials,
        held_out_sweeps,
        chosen: model.hyperparameters().clone(),
    };
    Ok(Trained { model, statistics, report })
}

/// Held-out moments that the blend is fitted on at most, evenly drawn.
const EXAMPLES_MAX: usize = 20_000;

/// Chooses everything for the first `until` events.
fn choose(
    log: &EventLog,
    until: usize,
    options: &Options,
    progress: &dyn Progress,
    trials: &mut Vec<Trial>,
) -> (Hyperparameters, Shape, Vec<Sweep>) {
    let mut hyper = Hyperparameters::starting_point();
    let (log, fit_until) = held_out::split(log, until);
    let log = &*log;
    let factors::Found { shape, sweeps, data, factors } =
        factors::choose(log, fit_until, until, options, &mut hyper, progress, trials);

    counts::choose(log, fit_until, until, &mut hyper, progress, trials);
    fit_blend(log, fit_until, until, &data, factors, &mut hyper, progress, trials);
    (hyper, shape, sweeps)
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
    let mut seen = 0;
    replay.run(fit_until..until, |moment| {
        progress.advance(1);
        seen += 1;
        if let Some(target) = moment.target.filter(|_| moment.wanted && seen % every == 0) {
            examples.observe(moment, target);
        }
    });
    let fitted = examples.fit();
    for (scenario, figure) in ["discover", "continue"].into_iter().zip(fitted.ndcg10) {
        trials.push(Trial { stage: "blend", candidate: scenario.to_owned(), ndcg10: figure });
    }
    hyper.blend = fitted.blend;
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
    options: &Options,
    hyper: &Hyperparameters,
    progress: &dyn Progress,
) -> (Model, Statistics) {
    let data = ials::Data::new(log, until, hyper);
    if let Some(given) = &options.given {
        let mut factors = given.factors(log, &data, hyper.alpha, hyper.lambda);
        factors.solve_users(&data, hyper.alpha, hyper.lambda);
        return assemble(log, until, &data, &factors, hyper, options.lineage);
    }
    progress.stage("factors", shape.sweeps as u64);
    let mut factors = ials::Factors::new(&data, shape.dim);
    for sweep in 1..=shape.sweeps {
        factors.sweep(&data, hyper.alpha, hyper.lambda);
        progress.advance(1);
        let loss = factors.loss(&data, hyper.alpha, hyper.lambda);
        progress.note(&format!("all events, sweep {sweep} of {}: loss {loss:.5}", shape.sweeps));
    }
    assemble(log, until, &data, &factors, hyper, options.lineage)
}

/// Two rounds of a multiplicative hash (the finaliser of SplitMix64, Steele, Lea, Flood 2014, doi
/// 10.1145/2660193.2660195): uniform enough for starting points and for drawing what is held out.
fn hash(number: u64) -> u64 {
    let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb)
}
