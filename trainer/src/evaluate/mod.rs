//! Evaluation through the product's own path: devices learn, deltas flow, central publishes.
//!
//! The stream protocol is prequential (test, then learn): Dawid (1984), doi 10.2307/2981683.
//! `baselines` holds the methods that it is measured against, `compare` runs them beside it.

pub mod baselines;
pub mod compare;
pub mod figures;

use figures::{ListFigures, Outcomes, Stream};

use crate::event_log::EventLog;
use nearfield_engine::ItemKey;
use nearfield_engine::ids::{DeltaId, ModelVersion, Row};
use nearfield_engine::merge::drift::{Drift, DriftMonitor};
use nearfield_engine::merge::{Statistics, Window};
use nearfield_engine::model::Model;
use nearfield_engine::model::hyper::{BUCKETS, Scenario, bucket};
use nearfield_engine::person::UserState;
use nearfield_engine::sync::wire;
use serde::Serialize;
use std::collections::{HashMap, HashSet, VecDeque};

/// When deltas flow and versions appear, in stream time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Flow {
    /// Idle time after which a delta goes out.
    pub idle_ms: u64,
    /// Time after which a version is published, if anything waits.
    pub publish_ms: u64,
    /// Events after which a version is published, if anything waits.
    pub publish_events: u64,
    /// Distinct devices that a row's contributions wait for.
    pub k: u32,
    /// Nothing is ever published: the trained model stays.
    pub frozen: bool,
}

impl Default for Flow {
    fn default() -> Self {
        Self { idle_ms: 60_000, publish_ms: 60_000, publish_events: 2_500, k: 1, frozen: false }
    }
}

/// Hit rate and gain of one group of targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Targets.
    pub n: u64,
    /// Share of targets ranked among the first ten.
    pub hr10: f64,
    /// Standard error of `hr10`, targets taken as independent; a sum of squares until the mean is taken.
    pub hr10_se: f64,
    /// Mean of 1 / log2(1 + rank) over targets, 0 beyond rank ten.
    pub ndcg10: f64,
    /// Standard error of `ndcg10`; a sum of squares until the mean is taken.
    pub ndcg10_se: f64,
}

impl Figures {
    /// Counts one target; sums until [`Figures::mean`].
    pub fn add(&mut self, rank: Option<f64>) {
        let (hit, gain) = hit_and_gain(rank);
        self.n += 1;
        self.hr10 += hit;
        self.hr10_se += hit * hit;
        self.ndcg10 += gain;
        self.ndcg10_se += gain * gain;
    }

    /// Returns the means of what was counted, and their standard errors.
    pub fn mean(self) -> Self {
        let (hr10, hr10_se) = mean_and_error(self.n, self.hr10, self.hr10_se);
        let (ndcg10, ndcg10_se) = mean_and_error(self.n, self.ndcg10, self.ndcg10_se);
        Self { n: self.n, hr10, hr10_se, ndcg10, ndcg10_se }
    }
}

/// Returns whether a rank is among the first ten, as 0 or 1, and 1 / log2(1 + rank) if so.
fn hit_and_gain(rank: Option<f64>) -> (f64, f64) {
    rank.filter(|rank| *rank <= 10.0).map_or((0.0, 0.0), |rank| (1.0, 1.0 / (1.0 + rank).log2()))
}

/// Returns the mean of `n` numbers and its standard error, s / √n, from their sum and sum of squares.
fn mean_and_error(n: u64, sum: f64, squares: f64) -> (f64, f64) {
    if n == 0 {
        return (0.0, 0.0);
    }
    let mean = sum / n as f64;
    let variance = (squares - sum * mean).max(0.0) / n.saturating_sub(1).max(1) as f64;
    (mean, (variance / n as f64).sqrt())
}

/// Figures of one history bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct BucketFigures {
    /// Events of history: 0, 1, 2–4, 5–9, 10–19, 20+.
    pub history: &'static str,
    /// Targets that the person had not touched.
    pub novel: Figures,
    /// All targets.
    pub all: Figures,
}

/// Names of the history buckets.
pub const BUCKET_NAMES: [&str; BUCKETS] = ["0", "1", "2-4", "5-9", "10-19", "20+"];

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

/// The moment before a person's next event: what an observer may look at.
pub struct Moment<'a> {
    /// The person.
    pub person: &'a mut UserState,
    /// The model that the person's device holds.
    pub model: &'a Model,
    /// The row of the item that comes, if the model has it.
    pub target: Option<Row>,
    /// Rows that the person has touched.
    pub touched: &'a HashSet<Row>,
    /// Whether the item that comes is new to the person.
    pub novel: bool,
    /// Events in the person's history.
    pub history: usize,
}

/// A fleet and a central service in one thread, fed by a recorded stream.
pub struct Replay<'a> {
    log: &'a EventLog,
    flow: Flow,
    model: Model,
    statistics: Statistics,
    window: Window,
    people: HashMap<u32, UserState>,
    /// Items each person has touched, by index of the log.
    touched: Vec<HashSet<u32>>,
    /// (time at which the person counts as idle, person), in order of time.
    idle: VecDeque<(u64, u32)>,
    published_ms: u64,
    events_since: u64,
    deltas: u64,
    delta_bytes: u64,
    refused: u64,
    versions: u64,
    keys: Vec<ItemKey>,
    monitor: DriftMonitor,
    drift: Vec<Alarm>,
}

impl<'a> Replay<'a> {
    /// Returns a replay that starts after the first `trained` events, which model and statistics
    /// have learned already; the people's devices remember them.
    pub fn new(log: &'a EventLog, trained: usize, model: Model, statistics: Statistics, flow: Flow) -> Self {
        let mut touched = vec![HashSet::new(); log.users.len()];
        for event in &log.events[..trained] {
            touched[event.user as usize].insert(event.item);
        }
        let mut people: HashMap<u32, UserState> = HashMap::new();
        for index in 0..trained {
            let event = log.event(index);
            let person = people.entry(log.events[index].user).or_default();
            person.remember(&event);
        }
        Self {
            window: Window::new(&statistics),
            keys: log.items.iter().map(|id| ItemKey::of(id)).collect(),
            log,
            flow,
            model,
            statistics,
            people,
            touched,
            idle: VecDeque::new(),
            published_ms: 0,
            events_since: 0,
            deltas: 0,
            delta_bytes: 0,
            refused: 0,
            versions: 0,
            monitor: DriftMonitor::default(),
            drift: Vec::new(),
        }
    }

    /// Replays events `range`, calling `observe` before each is learned.
    pub fn run(&mut self, range: std::ops::Range<usize>, mut observe: impl FnMut(Moment<'_>)) {
        let mut touched_rows = HashSet::new();
        for index in range {
            let recorded = self.log.events[index];
            let now = recorded.time_ms;
            self.flow_until(now);
            let person = self.people.entry(recorded.user).or_default();
            let touched = &self.touched[recorded.user as usize];
            touched_rows.clear();
            touched_rows.extend(touched.iter().filter_map(|item| self.model.row(self.keys[*item as usize])));
            let target = self.model.row(self.keys[recorded.item as usize]);
            observe(Moment {
                history: person.len(),
                person,
                model: &self.model,
                target,
                touched: &touched_rows,
                novel: !touched.contains(&recorded.item),
            });

            // The operator's catalogue registers an item at its first event.
            if target.is_none() && !self.flow.frozen {
                let _known = self.statistics.register(&self.log.items[recorded.item as usize]);
            }
            let event = self.log.event(index);
            let person = self.people.entry(recorded.user).or_default();
            // A file's events are sound: the reader has checked each field.
            let _learned = person.learn(&self.model, &event, now);
            self.touched[recorded.user as usize].insert(recorded.item);
            self.events_since += 1;
            self.idle.push_back((now + self.flow.idle_ms, recorded.user));
            if person.unsent() >= nearfield_engine::sync::delta::DELTA_EVENTS {
                self.send(recorded.user);
            }
        }
    }

    /// Lets idle devices send and central publish, up to a moment of stream time.
    fn flow_until(&mut self, now: u64) {
        while let Some((due, user)) = self.idle.front().copied() {
            if due > now {
                break;
            }
            self.idle.pop_front();
            let still_idle = self.people.get(&user).is_some_and(|person| {
                person.history().next_back().is_some_and(|last| last.time_ms + self.flow.idle_ms <= now)
            });
            if still_idle {
                self.send(user);
                if let Some(person) = self.people.get_mut(&user) {
                    person.rest();
                }
            }
        }
        let due = now.saturating_sub(self.published_ms) >= self.flow.publish_ms
            || self.events_since >= self.flow.publish_events;
        let waits = !self.window.is_empty() || self.statistics.catalogue_waits();
        if due && waits && !self.flow.frozen {
            let publication = self.statistics.publish(&mut self.window, self.flow.k);
            self.model.apply(&publication.patch).expect("a publication follows the version before it");
            self.published_ms = now;
            self.events_since = 0;
            self.versions += 1;
        }
    }

    fn send(&mut self, user: u32) {
        if self.flow.frozen {
            return;
        }
        let Some(person) = self.people.get_mut(&user) else { return };
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.deltas.to_le_bytes());
        let Some(delta) = person.take_delta(&self.model, DeltaId(id)).cloned() else { return };
        person.settle(delta.id, &wire::Outcome::Acknowledged);
        self.deltas += 1;
        let request = wire::SyncRequest {
            site: "evaluate".into(),
            token: vec![0; 40],
            deltas: vec![delta],
            extensions: vec![],
        };
        let bytes = wire::encode_request(&request).expect("one delta is far below the limit");
        self.delta_bytes += bytes.len() as u64;
        let request = wire::decode_request(&bytes).expect("what was encoded decodes");
        for delta in &request.deltas {
            match self.window.check(&self.statistics, delta, ModelVersion(0)) {
                Ok(()) => self.window.admit(&self.statistics, delta, u64::from(user)),
                Err(_refusal) => self.refused += 1,
            }
        }
    }
}

/// Returns the rank of a target among all rows but `excluded`, ties to the middle.
pub fn rank(scores: &[f32], target: Row, excluded: impl Iterator<Item = Row>) -> f64 {
    let own = scores[target as usize];
    let (mut above, mut equal) = (0i64, -1i64);
    for score in scores {
        above += i64::from(*score > own);
        equal += i64::from(*score == own);
    }
    for row in excluded.filter(|row| *row != target) {
        above -= i64::from(scores[row as usize] > own);
        equal -= i64::from(scores[row as usize] == own);
    }
    1.0 + above as f64 + equal as f64 / 2.0
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
pub struct Blend;

impl Scorer for Blend {
    fn name(&self) -> &'static str {
        "blend"
    }

    fn scores(&mut self, moment: &mut Moment<'_>, novel: bool, out: &mut Vec<f32>) {
        let scenario = if novel { Scenario::Discover } else { Scenario::Continue };
        moment.person.scores(moment.model, scenario, out);
    }
}

/// Replays everything after the first `trained` events and reports how targets were ranked.
/// `advance` is told of every 1,000 events.
pub fn stream(
    log: &EventLog,
    trained: usize,
    model: Model,
    statistics: Statistics,
    flow: Flow,
    advance: impl FnMut(u64),
) -> StreamReport {
    let stream = Stream::new(log);
    let mut replay = Replay::new(log, trained, model, statistics, flow);
    let outcomes = observe(&mut replay, &stream, trained, &mut [&mut Blend], advance);
    report(&replay, &outcomes[0])
}

/// Replays everything after the first `trained` events and returns how each scorer ranked the
/// targets, at the same moments.
fn observe<'s>(
    replay: &mut Replay<'_>,
    stream: &'s Stream<'s>,
    trained: usize,
    scorers: &mut [&mut dyn Scorer],
    mut advance: impl FnMut(u64),
) -> Vec<Outcomes<'s>> {
    let mut outcomes: Vec<_> = scorers.iter().map(|_| Outcomes::new(stream, trained)).collect();
    let mut scores = Vec::new();
    // Number in the stream of each row of the model.
    let mut numbers: Vec<u32> = Vec::new();
    let mut done = 0;
    let mut monitor = std::mem::take(&mut replay.monitor);
    let mut drift = Vec::new();
    replay.run(trained..stream.events.len(), |mut moment| {
        done += 1;
        if done % 1000 == 0 {
            advance(1000);
        }
        let model = moment.model;
        numbers.extend((numbers.len()..model.len()).map(|row| {
            stream.number(model.item_id(row as Row)).expect("the model has no item that the log has not")
        }));
        for (number, (scorer, outcomes)) in scorers.iter_mut().zip(&mut outcomes).enumerate() {
            let mut all = None;
            if let Some(target) = moment.target {
                scorer.scores(&mut moment, false, &mut scores);
                let place = rank(&scores, target, std::iter::empty());
                if number == 0
                    && let Some(raised) =
                        monitor.observe(model.version(), nearfield_engine::merge::drift::gain(place))
                {
                    drift.push(Alarm { event: trained + done - 1, drift: raised });
                }
                all = Some(place);
            }
            let novel = moment.novel.then(|| {
                scorer.scores(&mut moment, true, &mut scores);
                let rank = moment.target.map(|target| rank(&scores, target, moment.touched.iter().copied()));
                moment.touched.iter().for_each(|row| scores[*row as usize] = f32::NEG_INFINITY);
                let mut list = figures::list(&scores);
                list.iter_mut().for_each(|row| *row = numbers[*row as usize]);
                (rank, list)
            });
            let novel = novel.as_ref().map(|(rank, list)| (*rank, &list[..]));
            outcomes.add(bucket(moment.history), all, novel);
        }
    });
    replay.monitor = monitor;
    replay.drift = drift;
    outcomes
}

/// Returns what a replay found, with the product's own outcomes.
fn report(replay: &Replay<'_>, own: &Outcomes<'_>) -> StreamReport {
    let (novel, all, by_history) = own.figures();
    StreamReport {
        novel,
        all,
        by_history,
        lists: own.lists(),
        deltas: replay.deltas,
        refused: replay.refused,
        versions: replay.versions,
        delta_bytes_mean: replay.delta_bytes as f64 / replay.deltas.max(1) as f64,
        drift: replay.drift.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_to_the_middle_and_excluded_rows_do_not_count() {
        let scores = [3.0, 1.0, 1.0, 1.0, 5.0];
        assert_eq!(rank(&scores, 1, std::iter::empty()), 4.0);
        assert_eq!(rank(&scores, 1, [4, 2].into_iter()), 2.5);
        assert_eq!(rank(&scores, 4, [4].into_iter()), 1.0);
    }

    #[test]
    fn a_mean_of_hits_comes_with_its_standard_error() {
        let mut figures = Figures::default();
        [Some(1.0), Some(11.0), None, Some(2.0)].into_iter().for_each(|rank| figures.add(rank));
        let figures = figures.mean();
        // Hits 1, 0, 0, 1: variance 1/3 over 4.
        assert_eq!((figures.n, figures.hr10), (4, 0.5));
        assert!((figures.hr10_se - (1.0f64 / 12.0).sqrt()).abs() < 1e-12, "{figures:?}");
        assert!((figures.ndcg10 - (1.0 + 1.0 / 3f64.log2()) / 4.0).abs() < 1e-12, "{figures:?}");
    }
}
