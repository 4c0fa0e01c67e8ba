//! The product, its parts and the baselines on the same moments of a stream.
//!
//! Every method ranks the same targets by one rule: among all items seen so far, ties to the middle,
//! own items left out for novel targets, a target that the method does not know a miss, and the
//! popularity list for a person without history. So differences can be taken target by target.

use super::baselines::{self, Baseline, Popularity, SequentialRules, StaticFactors, VmisKnn};
use super::figures::{BucketFigures, Figures};
use super::outcomes::{Differences, ListFigures, Outcomes, Stream, differences};
use super::stream::{Observed, ProductScore, Scorer, StreamReport, observe, report};
use crate::event_log::EventLog;
use crate::progress::Progress;
use crate::replay::{Flow, Moment, Replay};
use nearfield_engine::merge::Statistics;
use nearfield_engine::model::Model;
use nearfield_engine::model::blend::{FORWARD, bucket};
use nearfield_engine::model::popularity::BEST;
use rayon::prelude::*;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Instant;

/// One method beside the product.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MethodReport {
    /// Its name.
    pub method: &'static str,
    /// Its settings.
    pub parameters: BTreeMap<&'static str, f64>,
    /// Targets that the person had not touched.
    pub novel: Figures,
    /// All targets.
    pub all: Figures,
    /// Both, by length of history.
    pub by_history: Vec<BucketFigures>,
    /// Coverage and novelty of its lists.
    pub lists: ListFigures,
    /// The product's figures less this method's, on the same targets.
    pub nearfield_ahead: Differences,
    /// The same, by length of history.
    pub nearfield_ahead_by_history: Vec<Differences>,
    /// Seconds that its replay took, others running beside it.
    pub replay_s: f64,
}

/// Hit rate on novel targets over the replay.
#[derive(Clone, Debug, PartialEq)]
pub struct LearningCurve {
    /// The method's name.
    pub method: &'static str,
    /// HR@10 on the novel targets of the whole replay.
    pub hr10: f64,
    /// (Events replayed, HR@10 over a sliding window of novel targets).
    pub points: Vec<(f64, f64)>,
}

/// What a comparison found.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The product.
    pub report: StreamReport,
    /// The product with the trained model kept, and the baselines.
    pub compare: Vec<MethodReport>,
    /// Parts of the product's score, each ranking alone at the product's own moments.
    pub parts: Vec<MethodReport>,
    /// Novel targets in one window of the curves.
    pub window: usize,
    /// The product's curve, then those of `compare`.
    pub curves: Vec<LearningCurve>,
    /// Seconds of the product's replay, alone on the machine, parts included.
    pub replay_s: f64,
}

/// Popularity alone, at the half-life that ranked best in training.
struct PopularityPart;

impl Scorer for PopularityPart {
    fn name(&self) -> &'static str {
        "popularity"
    }

    fn scores(&mut self, moment: &mut Moment<'_>, _novel: bool, out: &mut Vec<f32>) {
        out.clear();
        out.extend((0..moment.model.len()).map(|row| moment.model.popularity_features(row as u32)[BEST]));
    }
}

/// The plain factor alone; for a person without history the popularity list.
struct FactorPart;

impl Scorer for FactorPart {
    fn name(&self) -> &'static str {
        "factor"
    }

    fn scores(&mut self, moment: &mut Moment<'_>, novel: bool, out: &mut Vec<f32>) {
        if bucket(moment.history) == 0 {
            PopularityPart.scores(moment, novel, out);
        } else {
            moment.person.factor_scores(moment.model, moment.workspace, out);
        }
    }
}

/// Forward transitions alone; for a person without history the popularity list.
struct TransitionPart;

impl Scorer for TransitionPart {
    fn name(&self) -> &'static str {
        "transitions"
    }

    fn scores(&mut self, moment: &mut Moment<'_>, novel: bool, out: &mut Vec<f32>) {
        if bucket(moment.history) == 0 {
            return PopularityPart.scores(moment, novel, out);
        }
        out.clear();
        out.resize(moment.model.len(), 0.0);
        let (_, candidates) = moment.person.features(moment.model, moment.workspace);
        candidates.iter().for_each(|(row, features)| out[*row as usize] = features[FORWARD]);
    }
}

/// Returns the parts of the product's score that can rank alone.
pub fn parts() -> Vec<Box<dyn Scorer>> {
    vec![Box::new(PopularityPart), Box::new(FactorPart), Box::new(TransitionPart)]
}

/// Points of a learning curve.
const CURVE_POINTS: usize = 120;

/// Fraction of the novel targets in one window of the curves: wide enough that noise stays below the
/// differences, narrow enough to show a day's rhythm.
const CURVE_WINDOW: f64 = 0.1;

/// Replays everything after the first `trained` events through the product, through its parts, and
/// through the baselines.
pub fn compare(
    log: &EventLog,
    trained: usize,
    model: Model,
    statistics: Statistics,
    flow: Flow,
    progress: &dyn Progress,
) -> Comparison {
    let stream = Stream::new(log, model.hyperparameters());
    let replayed = (stream.events.len() - trained) as u64;
    progress.stage("replay", replayed);
    let started = Instant::now();
    let mut parts = parts();
    let mut product = ProductScore;
    let mut scorers: Vec<&mut dyn Scorer> = vec![&mut product];
    for part in &mut parts {
        scorers.push(part.as_mut());
    }
    let mut replay = Replay::new(log, trained, model.clone(), statistics.clone(), flow);
    let observed = observe(&mut replay, &stream, trained, &mut scorers, |steps| progress.advance(steps));
    let replay_s = started.elapsed().as_secs_f64();
    let own = &observed.outcomes[0];
    let part_reports = parts
        .iter()
        .zip(&observed.outcomes[1..])
        .map(|(part, outcomes)| method(part.name(), BTreeMap::new(), own, outcomes, replay_s));

    let half_life = Popularity::tuned_half_life(&stream, trained);
    let mut baselines: Vec<Box<dyn Baseline>> = vec![
        Box::new(VmisKnn::new(stream.items)),
        Box::new(SequentialRules::new(stream.items)),
        Box::new(StaticFactors::new(&stream, &model, true)),
        Box::new(StaticFactors::new(&stream, &model, false)),
        Box::new(Popularity::new(stream.items, half_life)),
    ];
    progress.stage("baselines", replayed * (1 + baselines.len() as u64));
    let frozen = || {
        let started = Instant::now();
        let flow = Flow { frozen: true, ..flow };
        let mut replay = Replay::new(log, trained, model.clone(), statistics.clone(), flow);
        let advance = |steps| progress.advance(steps);
        let Observed { mut outcomes, .. } =
            observe(&mut replay, &stream, trained, &mut [&mut ProductScore], advance);
        (outcomes.remove(0), started.elapsed().as_secs_f64())
    };
    let others = || -> Vec<_> {
        let run = |baseline: &mut Box<dyn Baseline>| {
            let started = Instant::now();
            let range = trained..stream.events.len();
            let advance = |steps| progress.advance(steps);
            let outcomes = baselines::replay(&stream, range, baseline.as_mut(), half_life, &advance);
            (outcomes, started.elapsed().as_secs_f64())
        };
        baselines.par_iter_mut().map(run).collect()
    };
    let (frozen, others) = rayon::join(frozen, others);

    let window = (own.figures().0.n as f64 * CURVE_WINDOW) as usize;
    let curve = |method, outcomes: &Outcomes<'_>| LearningCurve {
        method,
        hr10: outcomes.figures().0.hr10,
        points: outcomes.learning_curve(window, CURVE_POINTS),
    };
    let mut curves = vec![curve("Nearfield", own)];
    let mut reports = Vec::new();
    const FROZEN: &str = "Nearfield, model kept";
    let named = std::iter::once((FROZEN, BTreeMap::new(), &frozen)).chain(
        baselines.iter().zip(&others).map(|(baseline, run)| (baseline.name(), baseline.parameters(), run)),
    );
    for (name, parameters, (outcomes, seconds)) in named {
        curves.push(curve(name, outcomes));
        reports.push(method(name, parameters, own, outcomes, *seconds));
    }
    Comparison {
        report: report(&replay, &observed),
        compare: reports,
        parts: part_reports.collect(),
        window,
        curves,
        replay_s,
    }
}

fn method(
    name: &'static str,
    parameters: BTreeMap<&'static str, f64>,
    own: &Outcomes<'_>,
    outcomes: &Outcomes<'_>,
    replay_s: f64,
) -> MethodReport {
    let (novel, all, by_history) = outcomes.figures();
    let (nearfield_ahead, nearfield_ahead_by_history) = differences(own, outcomes);
    MethodReport {
        method: name,
        parameters,
        novel,
        all,
        by_history,
        lists: outcomes.lists(),
        nearfield_ahead,
        nearfield_ahead_by_history,
        replay_s,
    }
}
