//! Baselines that learn from the stream itself, under the same moments and the same ranking rule as
//! the product. They exist for evaluation only.
//!
//! Each live baseline learns at once after every event, in one place that sees everyone's events:
//! a stronger position than the product's, whose devices wait for a delta and a publication.

mod factors;
mod popularity;
mod sequential_rules;
mod vmis_knn;

pub use factors::StaticFactors;
pub use popularity::Popularity;
pub use sequential_rules::SequentialRules;
pub use vmis_knn::VmisKnn;

use super::figures::rank;
use super::outcomes::{Outcomes, Stream, top_ten};
use crate::event_log::LogEvent;
use nearfield_engine::event::Kind;
use nearfield_engine::model::blend::bucket;
use std::collections::{BTreeMap, HashSet};

/// A method that learns from every event of the stream, in order.
pub trait Baseline: Send {
    /// Returns the name in the report.
    fn name(&self) -> &'static str;

    /// Returns the settings, by name.
    fn parameters(&self) -> BTreeMap<&'static str, f64>;

    /// Writes the score of each item seen so far for a person with some history. Every entry holds
    /// minus infinity before: what keeps it is not proposed.
    fn scores(&mut self, person: u32, out: &mut [f32]);

    /// Learns from the next event; impressions and searches never come here.
    fn learn(&mut self, event: &LogEvent);
}

/// Returns whether an event says that the person wants the item; counts learn from these only.
fn is_positive(event: &LogEvent) -> bool {
    !matches!(event.kind, Kind::Uncart | Kind::Dismiss)
}

/// Feeds the stream to a baseline and returns what it did in `range`; the events before it teach only.
/// Where there is no history, the list is that of decayed popularity learned live, for every
/// baseline, so that they differ only in what they make of a history.
/// `advance` is called after every 1,000 moments.
pub fn replay<'a>(
    stream: &'a Stream<'a>,
    range: std::ops::Range<usize>,
    baseline: &mut dyn Baseline,
    popularity_half_life: f64,
    advance: &dyn Fn(u64),
) -> Outcomes<'a> {
    let mut outcomes = Outcomes::new(stream, range.start);
    let mut popularity = Popularity::new(stream.items, popularity_half_life);
    let mut touched: Vec<HashSet<u32>> = vec![HashSet::new(); stream.people];
    let mut history = vec![0usize; stream.people];
    let mut seen = 0;
    let mut scores = Vec::new();
    for (index, event) in stream.events[..range.end].iter().enumerate() {
        let own = &touched[event.user as usize];
        if index >= range.start && !stream.is_target(index) {
            outcomes.pass();
        } else if index >= range.start {
            scores.clear();
            scores.resize(seen, f32::NEG_INFINITY);
            let length = history[event.user as usize];
            if length == 0 {
                popularity.scores(event.user, &mut scores);
            } else {
                baseline.scores(event.user, &mut scores);
            }
            let known = (event.item as usize) < seen && scores[event.item as usize] > f32::NEG_INFINITY;
            let target = Some(event.item).filter(|_| known);
            let all = target.map(|target| rank(&scores, target, std::iter::empty()));
            let novel = (!own.contains(&event.item)).then(|| {
                let rank = target.map(|target| rank(&scores, target, own.iter().copied()));
                own.iter().for_each(|item| scores[*item as usize] = f32::NEG_INFINITY);
                (rank, top_ten(&scores))
            });
            outcomes.add(bucket(length), all, novel.as_ref().map(|(rank, list)| (*rank, &list[..])));
        }
        if index >= range.start && (index + 1 - range.start).is_multiple_of(1000) {
            advance(1000);
        }
        seen = seen.max(event.item as usize + 1);
        if event.kind.is_history() {
            touched[event.user as usize].insert(event.item);
            history[event.user as usize] += 1;
            baseline.learn(event);
            popularity.learn(event);
        }
    }
    outcomes
}

#[cfg(test)]
mod tests {
    use crate::event_log::EventLog;

    /// Returns a log of (person, item, second).
    pub(super) fn log(events: impl IntoIterator<Item = (String, String, u64)>) -> EventLog {
        let mut text = String::from("user,item,timestamp\n");
        for (person, item, second) in events {
            text += &format!("{person},{item},{}\n", 1_700_000_000 + second);
        }
        EventLog::read_csv(text.as_bytes()).unwrap()
    }
}
