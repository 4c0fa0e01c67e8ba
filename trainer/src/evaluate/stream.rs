//! The stream protocol: every event of a replay is a target before it is learned from.
//!
//! Prequential evaluation (test, then learn): Dawid (1984), doi 10.2307/2981683.

use super::figures::{BucketFigures, Figures, rank};
use super::outcomes::{ListFigures, Outcomes, Stream, top_ten};
use crate::event_log::EventLog;
use crate::replay::{Flow, Moment, Replay};
use nearfield_engine::merge::drift::{self, Drift, DriftMonitor};
use nearfield_engine::model::blend::bucket;
use nearfield_engine::{Model, Row, Scenario, Statistics};
use serde::Serialize;

/// What a replay found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StreamReport {
    /// Targets that the person had not touched; the person's own items are left out of the ranking.
    pub novel: Figures,
    /// All targets, nothing left out.
    pub all: Figures,
    /// Both, by length of history.
    pub by_history: Vec<BucketFigures>,
    /// Coverage and novelty of the lists.
    pub lists: ListFigures,
    /// Deltas admitted and refused, and versions published.
    pub deltas: u64,
    /// Deltas refused; none is expected.
    pub refused: u64,
    /// Versions published.
    pub versions: u64,
    /// Mean bytes of a sync body with one delta.
    pub delta_bytes_mean: f64,
    /// Alarms of the drift detector over the ranks of all targets.
    pub drift: Vec<Alarm>,
}

/// An alarm of the drift detector.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Alarm {
    /// Index of the event at which it was raised.
    pub event: usize,
    /// What it says.
    #[serde(flatten)]
    pub drift: Drift,
}

/// A way to score the catalogue at a moment of the replay: the product's blend, or a part of it.
pub trait Scorer {
    /// Returns the name in the report.
    fn name(&self) -> &'static str;

    /// Writes the score of every row. `novel` asks for a list of items new to the person; the ranking
    /// leaves the others out.
    fn scores(&mut self, moment: &mut Moment<'_>, novel: bool, out: &mut Vec<f32>);
}

/// The product's own score.
#[derive(Clone, Copy, Debug)]
pub struct ProductScore;

impl Scorer for ProductScore {
    fn name(&self) -> &'static str {
        "blend"
    }

    fn scores(&mut self, moment: &mut Moment<'_>, novel: bool, out: &mut Vec<f32>) {
        let scenario = if novel { Scenario::Discover } else { Scenario::Continue };
        moment.person.scores(moment.model, scenario, moment.workspace, out);
    }
}

/// Replays everything after the first `trained` events and reports how targets were ranked.
/// `advance` is called after every 1,000 events.
pub fn stream(
    log: &EventLog,
    trained: usize,
    model: Model,
    statistics: Statistics,
    flow: Flow,
    advance: impl FnMut(u64),
) -> StreamReport {
    let stream = Stream::new(log, model.hyperparameters());
    let mut replay = Replay::new(log, trained, model, statistics, flow);
    let observed = observe(&mut replay, &stream, trained, &mut [&mut ProductScore], advance);
    report(&replay, &observed)
}

/// What was seen of a replay.
pub(super) struct Observed<'s> {
    /// How each scorer ranked the targets, the product's own first.
    pub(super) outcomes: Vec<Outcomes<'s>>,
    /// Alarms of the drift detector over the first scorer's ranks.
    pub(super) alarms: Vec<Alarm>,
}

/// Replays everything after the first `trained` events and returns how each scorer ranked the
/// targets, at the same moments.
pub(super) fn observe<'s>(
    replay: &mut Replay<'_>,
    stream: &'s Stream<'s>,
    trained: usize,
    scorers: &mut [&mut dyn Scorer],
    mut advance: impl FnMut(u64),
) -> Observed<'s> {
    let mut outcomes: Vec<_> = scorers.iter().map(|_| Outcomes::new(stream, trained)).collect();
    let mut scores = Vec::new();
    // Number in the stream of each row of the model.
    let mut numbers: Vec<u32> = Vec::new();
    let mut done = 0;
    let mut monitor = DriftMonitor::default();
    let mut alarms = Vec::new();
    replay.run(trained..stream.events.len(), |mut moment| {
        done += 1;
        if done % 1000 == 0 {
            advance(1000);
        }
        if !moment.wanted {
            outcomes.iter_mut().for_each(Outcomes::pass);
            return;
        }
        let model = moment.model;
        numbers.extend((numbers.len()..model.len()).map(|row| {
            stream.number(model.item_id(row as Row)).expect("every item of the model is in the log")
        }));
        for (number, (scorer, outcomes)) in scorers.iter_mut().zip(&mut outcomes).enumerate() {
            let mut all = None;
            if let Some(target) = moment.target {
                scorer.scores(&mut moment, false, &mut scores);
                let found = rank(&scores, target, std::iter::empty());
                if number == 0
                    && let Some(raised) = monitor.observe(model.version(), drift::gain(found))
                {
                    alarms.push(Alarm { event: trained + done - 1, drift: raised });
                }
                all = Some(found);
            }
            let novel = moment.novel.then(|| {
                scorer.scores(&mut moment, true, &mut scores);
                let rank = moment.target.map(|target| rank(&scores, target, moment.touched.iter().copied()));
                moment.touched.iter().for_each(|row| scores[*row as usize] = f32::NEG_INFINITY);
                let mut list = top_ten(&scores);
                list.iter_mut().for_each(|row| *row = numbers[*row as usize]);
                (rank, list)
            });
            let novel = novel.as_ref().map(|(rank, list)| (*rank, &list[..]));
            outcomes.add(bucket(moment.history), all, novel);
        }
    });
    Observed { outcomes, alarms }
}

/// Returns what a replay found, with the product's own outcomes.
pub(super) fn report(replay: &Replay<'_>, observed: &Observed<'_>) -> StreamReport {
    let own = &observed.outcomes[0];
    let traffic = replay.traffic();
    let (novel, all, by_history) = own.figures();
    StreamReport {
        novel,
        all,
        by_history,
        lists: own.lists(),
        deltas: traffic.deltas,
        refused: traffic.refused,
        versions: traffic.versions,
        delta_bytes_mean: traffic.delta_bytes as f64 / traffic.deltas.max(1) as f64,
        drift: observed.alarms.clone(),
    }
}
