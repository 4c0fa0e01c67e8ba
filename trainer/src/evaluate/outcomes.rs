//! What a method did at each moment of a replay, and the figures that follow from it.
//!
//! Ranks are kept target by target, so that two methods can be compared on the same targets: the
//! standard error of a paired difference is far smaller than that of either mean.

use super::figures::{BUCKET_NAMES, BucketFigures, Figures, hit_and_gain, mean_and_error};
use crate::event_log::{EventLog, LogEvent};
use nearfield_engine::Hyperparameters;
use nearfield_engine::model::blend::BUCKETS;
use nearfield_engine::rank::top_k::TopK;
use serde::Serialize;
use std::collections::HashMap;

/// Length of the lists whose coverage and novelty are reported.
pub const LIST_LEN: usize = 10;

/// A log with its items numbered by first appearance in the replayed order: an item has been seen
/// exactly when its number is below the count of items seen.
#[derive(Clone, Debug)]
pub struct Stream<'a> {
    /// The events, their items by number.
    pub events: Vec<LogEvent>,
    /// People in the log.
    pub people: usize,
    /// Items in the log.
    pub items: usize,
    /// Whether each event is a target: it says that the person wants its item.
    targets: Vec<bool>,
    numbers: HashMap<&'a str, u32>,
}

impl<'a> Stream<'a> {
    /// Returns the log with its items renumbered; `hyper` says which kinds of events are targets.
    pub fn new(log: &'a EventLog, hyper: &Hyperparameters) -> Self {
        let mut numbers = HashMap::new();
        let mut events = Vec::with_capacity(log.events.len());
        for event in &log.events {
            let next = numbers.len() as u32;
            let item = *numbers.entry(log.items[event.item as usize].as_str()).or_insert(next);
            events.push(LogEvent { item, ..*event });
        }
        let targets = log.events.iter().map(|event| hyper.is_target(event.kind)).collect();
        Self { events, people: log.users.len(), items: numbers.len(), targets, numbers }
    }

    /// Returns whether the event at an index is a target.
    pub fn is_target(&self, index: usize) -> bool {
        self.targets[index]
    }

    /// Returns the number of an item of the log.
    pub fn number(&self, id: &str) -> Option<u32> {
        self.numbers.get(id).copied()
    }
}

/// How one target was ranked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranked {
    /// Bucket of history length.
    pub bucket: usize,
    /// Rank among all items; infinite for a miss.
    pub all: f64,
    /// Rank among the items that are new to the person, where the target is one of them.
    pub novel: Option<f64>,
}

/// Coverage and novelty of the lists of ten that were made before each novel target, the person's
/// own items left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct ListFigures {
    /// Lists.
    pub n: u64,
    /// Fraction of the stream's items that occur in at least one list.
    pub coverage: f64,
    /// Gini coefficient of how often each item is listed: 0 all alike, 1 a single item.
    pub gini: f64,
    /// Mean of −log2(frequency among the events so far) over listed items, in bits: Vargas and Castells
    /// (2011), doi 10.1145/2043932.2043955.
    pub novelty_bits: f64,
}

/// Collects what one method does, moment by moment in the order of the stream.
#[derive(Clone, Debug)]
pub struct Outcomes<'a> {
    stream: &'a Stream<'a>,
    /// Index of the next moment in the stream.
    at: usize,
    ranked: Vec<Ranked>,
    /// Events so far, by item.
    events: Vec<u32>,
    /// Times listed, by item.
    listed: Vec<u64>,
    lists: u64,
    bits: f64,
}

impl<'a> Outcomes<'a> {
    /// Returns an empty collection that begins after the first `from` events.
    pub fn new(stream: &'a Stream<'a>, from: usize) -> Self {
        let mut events = vec![0; stream.items];
        for event in &stream.events[..from] {
            events[event.item as usize] += 1;
        }
        Self {
            stream,
            at: from,
            ranked: Vec::new(),
            events,
            listed: vec![0; stream.items],
            lists: 0,
            bits: 0.0,
        }
    }

    /// Takes the next moment: ranks, `None` being a miss, and the list where the target is novel.
    pub fn add(&mut self, bucket: usize, all: Option<f64>, novel: Option<(Option<f64>, &[u32])>) {
        if let Some((_, list)) = novel {
            self.lists += 1;
            for item in list {
                self.listed[*item as usize] += 1;
                // What is listed has been seen, so its frequency is not zero.
                let frequency = f64::from(self.events[*item as usize].max(1)) / self.at.max(1) as f64;
                self.bits -= frequency.log2();
            }
        }
        self.ranked.push(Ranked {
            bucket,
            all: all.unwrap_or(f64::INFINITY),
            novel: novel.map(|(rank, _)| rank.unwrap_or(f64::INFINITY)),
        });
        self.pass();
    }

    /// Passes the next moment, whose event is not a target.
    pub fn pass(&mut self) {
        self.events[self.stream.events[self.at].item as usize] += 1;
        self.at += 1;
    }

    /// Returns every moment, in the order of the stream.
    pub fn ranked(&self) -> &[Ranked] {
        &self.ranked
    }

    /// Returns the figures of novel targets, of all targets, and of both by length of history.
    pub fn figures(&self) -> (Figures, Figures, Vec<BucketFigures>) {
        let (mut novel, mut all) = (Figures::default(), Figures::default());
        let mut buckets = [BucketFigures::default(); BUCKETS];
        for ranked in &self.ranked {
            let bucket = &mut buckets[ranked.bucket];
            all.add(Some(ranked.all));
            bucket.all.add(Some(ranked.all));
            if let Some(rank) = ranked.novel {
                novel.add(Some(rank));
                bucket.novel.add(Some(rank));
            }
        }
        let by_history = buckets.into_iter().zip(BUCKET_NAMES).map(|(figures, history)| BucketFigures {
            history,
            novel: figures.novel.mean(),
            all: figures.all.mean(),
        });
        (novel.mean(), all.mean(), by_history.collect())
    }

    /// Returns coverage and novelty of the lists.
    pub fn lists(&self) -> ListFigures {
        let total: u64 = self.listed.iter().sum();
        let covered = self.listed.iter().filter(|count| **count > 0).count();
        ListFigures {
            n: self.lists,
            coverage: covered as f64 / self.listed.len().max(1) as f64,
            gini: gini(&self.listed),
            novelty_bits: self.bits / total.max(1) as f64,
        }
    }

    /// Returns the hit rate of novel targets over a sliding window of `window` of them, as points
    /// (events replayed up to the window's middle, hit rate); at most `points` of them.
    pub fn learning_curve(&self, window: usize, points: usize) -> Vec<(f64, f64)> {
        let hits: Vec<(usize, f64)> = self
            .ranked
            .iter()
            .enumerate()
            .filter_map(|(at, ranked)| ranked.novel.map(|rank| (at, f64::from(u8::from(rank <= 10.0)))))
            .collect();
        let window = window.clamp(1, hits.len().max(1));
        let step = (hits.len().saturating_sub(window) / points.max(1)).max(1);
        let windows = hits.windows(window).step_by(step);
        windows
            .map(|part| {
                let middle = part[part.len() / 2].0;
                (middle as f64, part.iter().map(|(_, hit)| hit).sum::<f64>() / part.len() as f64)
            })
            .collect()
    }
}

/// Returns Σ (2k − n − 1) x₍ₖ₎ / (n Σ x) over the counts in rising order, k from 1.
fn gini(counts: &[u64]) -> f64 {
    let mut sorted = counts.to_vec();
    sorted.sort_unstable();
    let n = sorted.len() as f64;
    let total = sorted.iter().sum::<u64>() as f64;
    if total == 0.0 {
        return 0.0;
    }
    let weighted: f64 =
        sorted.iter().enumerate().map(|(k, count)| (2.0 * (k + 1) as f64 - n - 1.0) * *count as f64).sum();
    weighted / (n * total)
}

/// Returns the best ten of `scores`; minus infinity is not listed, ties go to the lower index.
pub(crate) fn top_ten(scores: &[f32]) -> Vec<u32> {
    let mut top = TopK::new(LIST_LEN);
    for (index, score) in scores.iter().enumerate().filter(|(_, score)| **score > f32::NEG_INFINITY) {
        top.offer(index as u32, *score);
    }
    top.into_sorted().into_iter().map(|item| item.row).collect()
}

/// Mean of the differences between two methods on the same targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Difference {
    /// Targets.
    pub n: u64,
    /// Difference of the hit rates.
    pub hr10: f64,
    /// Standard error of that.
    pub hr10_se: f64,
    /// Difference of the gains.
    pub ndcg10: f64,
    /// Standard error of that.
    pub ndcg10_se: f64,
}

/// Differences on the novel and on all targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Differences {
    /// Length of history, or "any".
    pub history: &'static str,
    /// Novel targets.
    pub novel: Difference,
    /// All targets.
    pub all: Difference,
}

/// Returns `ours` less `theirs` target by target: over everything, then by bucket of history.
///
/// # Panics
/// When the two did not see the same stream.
pub fn differences(ours: &Outcomes<'_>, theirs: &Outcomes<'_>) -> (Differences, Vec<Differences>) {
    assert_eq!(ours.ranked.len(), theirs.ranked.len(), "both methods see every moment");
    let mut sums = [[PairedSums::default(); 2]; BUCKETS + 1];
    for (ours, theirs) in ours.ranked.iter().zip(&theirs.ranked) {
        assert_eq!((ours.bucket, ours.novel.is_some()), (theirs.bucket, theirs.novel.is_some()));
        for group in [ours.bucket, BUCKETS] {
            sums[group][1].add(ours.all, theirs.all);
            if let (Some(ours), Some(theirs)) = (ours.novel, theirs.novel) {
                sums[group][0].add(ours, theirs);
            }
        }
    }
    let read = |group: usize, history| Differences {
        history,
        novel: sums[group][0].mean(),
        all: sums[group][1].mean(),
    };
    let buckets = BUCKET_NAMES.into_iter().enumerate().map(|(group, history)| read(group, history));
    (read(BUCKETS, "any"), buckets.collect())
}

/// Sums and sums of squares of paired differences.
#[derive(Clone, Copy, Debug, Default)]
struct PairedSums {
    n: u64,
    hit: [f64; 2],
    gain: [f64; 2],
}

impl PairedSums {
    fn add(&mut self, ours: f64, theirs: f64) {
        let (our_hit, our_gain) = hit_and_gain(Some(ours));
        let (their_hit, their_gain) = hit_and_gain(Some(theirs));
        let (hit, gain) = (our_hit - their_hit, our_gain - their_gain);
        self.n += 1;
        self.hit = [self.hit[0] + hit, self.hit[1] + hit * hit];
        self.gain = [self.gain[0] + gain, self.gain[1] + gain * gain];
    }

    fn mean(self) -> Difference {
        let (hr10, hr10_se) = mean_and_error(self.n, self.hit[0], self.hit[1]);
        let (ndcg10, ndcg10_se) = mean_and_error(self.n, self.gain[0], self.gain[1]);
        Difference { n: self.n, hr10, hr10_se, ndcg10, ndcg10_se }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(items: &[&str]) -> EventLog {
        let lines: String =
            items.iter().enumerate().map(|(at, item)| format!("u{at},{item},{at}\n")).collect();
        EventLog::read_csv(format!("user,item,timestamp\n{lines}").as_bytes()).unwrap()
    }

    #[test]
    fn coverage_gini_and_novelty_follow_from_what_was_listed() {
        // Seven of eight events are of a, one is of b: their self-information is log2(8/7) and 3 bits.
        let log = log(&["a", "a", "a", "a", "a", "a", "a", "b", "a", "c"]);
        let stream = Stream::new(&log, &Hyperparameters::starting_point());
        let mut outcomes = Outcomes::new(&stream, 8);
        outcomes.add(0, Some(1.0), Some((Some(1.0), &[0, 1])));
        let lists = outcomes.lists();
        assert_eq!(lists.n, 1);
        assert!((lists.coverage - 2.0 / 3.0).abs() < 1e-12, "{lists:?}");
        assert!((lists.novelty_bits - ((8.0f64 / 7.0).log2() + 3.0) / 2.0).abs() < 1e-12, "{lists:?}");
        // Exposures 0, 1, 1: (−2·0 + 0·1 + 2·1) / (3 · 2).
        assert!((lists.gini - 1.0 / 3.0).abs() < 1e-12, "{lists:?}");
        assert_eq!(gini(&[5, 5, 5]), 0.0);
        assert!((gini(&[0, 0, 0, 9]) - 0.75).abs() < 1e-12);
    }

    #[test]
    fn a_paired_difference_has_the_error_of_the_differences_not_of_the_means() {
        let log = log(&["a", "b", "a", "b", "a"]);
        let stream = Stream::new(&log, &Hyperparameters::starting_point());
        let (mut ours, mut theirs) = (Outcomes::new(&stream, 1), Outcomes::new(&stream, 1));
        for (our_rank, their_rank) in [(1.0, 1.0), (1.0, 11.0), (20.0, 20.0), (1.0, 1.0)] {
            ours.add(1, Some(our_rank), None);
            theirs.add(1, Some(their_rank), None);
        }
        let (any, buckets) = differences(&ours, &theirs);
        // Differences 0, 1, 0, 0: mean 1/4, variance 1/4, standard error √(1/4 / 4).
        assert_eq!((any.all.n, any.all.hr10, any.all.hr10_se), (4, 0.25, 0.25));
        assert_eq!(buckets[1].all, any.all);
        assert_eq!(any.novel.n, 0);
    }

    #[test]
    fn a_learning_curve_rises_where_misses_turn_to_hits() {
        let log = log(&["a"; 9]);
        let stream = Stream::new(&log, &Hyperparameters::starting_point());
        let mut outcomes = Outcomes::new(&stream, 1);
        for rank in [11.0, 11.0, 11.0, 11.0, 1.0, 1.0, 1.0, 1.0] {
            outcomes.add(0, Some(rank), Some((Some(rank), &[])));
        }
        let curve = outcomes.learning_curve(4, 4);
        assert_eq!(curve.first().unwrap().1, 0.0);
        assert_eq!(curve.last().unwrap().1, 1.0);
        assert!(curve.windows(2).all(|pair| pair[0].1 <= pair[1].1 && pair[0].0 < pair[1].0), "{curve:?}");
    }

    #[test]
    fn a_list_holds_only_what_was_proposed() {
        assert_eq!(top_ten(&[f32::NEG_INFINITY, 1.0, 3.0, 1.0]), [2, 1, 3]);
    }
}
