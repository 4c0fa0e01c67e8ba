//! Decayed popularity, learned live.
//!
//! ```text
//! pop_i = Σ_events of i 2^−(events since / H)
//! ```

use super::{Baseline, is_positive};
use crate::evaluate::outcomes::Stream;
use crate::event_log::LogEvent;
use std::collections::BTreeMap;

/// Decayed counts, the same list for everyone.
#[derive(Clone, Debug)]
pub struct Popularity {
    half_life: f64,
    /// log2 of each item's count in growing units: the ranking is that of the decayed counts.
    levels: Vec<f64>,
    /// log2 of what the next event counts.
    unit: f64,
}

impl Popularity {
    /// Returns counts of zero for `items` items, with a half-life in events of the stream.
    pub fn new(items: usize, half_life: f64) -> Self {
        Self { half_life, levels: vec![f64::NEG_INFINITY; items], unit: 0.0 }
    }

    /// Returns the half-life with the best NDCG@10 of novel targets on the last fifth of the first
    /// `trained` events, from a grid of fractions of them; nothing after them is looked at.
    pub fn tuned_half_life(stream: &Stream<'_>, trained: usize) -> f64 {
        const FRACTIONS: [f64; 7] = [0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0];
        let from = trained * 4 / 5;
        let judged = FRACTIONS.map(|fraction| {
            let half_life = (fraction * trained as f64).max(1.0);
            let mut candidate = Self::new(stream.items, half_life);
            let outcomes = super::replay(stream, from..trained, &mut candidate, half_life, &|_| {});
            (outcomes.figures().0.ndcg10, half_life)
        });
        let best = judged.into_iter().max_by(|a, b| a.0.total_cmp(&b.0));
        best.map_or(trained as f64, |(_, half_life)| half_life)
    }
}

impl Baseline for Popularity {
    fn name(&self) -> &'static str {
        "popularity"
    }

    fn parameters(&self) -> BTreeMap<&'static str, f64> {
        BTreeMap::from([("half_life_events", self.half_life)])
    }

    fn scores(&mut self, _person: u32, out: &mut [f32]) {
        for (out, level) in out.iter_mut().zip(&self.levels) {
            *out = (level - self.unit) as f32;
        }
    }

    fn learn(&mut self, event: &LogEvent) {
        if !is_positive(event) {
            return;
        }
        self.unit += 1.0 / self.half_life;
        let level = &mut self.levels[event.item as usize];
        // log2(2^level + 2^unit), the unit being the larger or near it.
        *level = self.unit + (1.0 + (*level - self.unit).exp2()).log2();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::baselines::{replay, tests::log};
    use nearfield_engine::Hyperparameters;

    #[test]
    fn on_a_stream_that_is_only_popularity_the_popular_item_comes_first() {
        // Everyone is new and clicks a, but every fifth clicks one of many others.
        let events = (0..200).map(|at| {
            let item = if at % 5 == 0 { format!("rare{}", at % 35) } else { "a".into() };
            (format!("u{at}"), item, at)
        });
        let log = log(events);
        let stream = Stream::new(&log, &Hyperparameters::starting_point());
        let mut popularity = Popularity::new(stream.items, 50.0);
        let outcomes = replay(&stream, 100..200, &mut popularity, 50.0, &|_| {});
        let first = outcomes.ranked().iter().filter(|ranked| ranked.all == 1.0).count();
        assert_eq!(first, 80);
    }

    #[test]
    fn a_short_half_life_is_chosen_where_fashion_changes_fast() {
        // The item of the day changes every 20 events and comes back after 400.
        let log = log((0..1000).map(|at| (format!("u{at}"), format!("day{}", at / 20 % 20), at)));
        let stream = Stream::new(&log, &Hyperparameters::starting_point());
        let chosen = Popularity::tuned_half_life(&stream, 800);
        assert!(chosen < 100.0, "{chosen} events");
    }

    #[test]
    fn after_one_half_life_an_event_counts_half() {
        let mut popularity = Popularity::new(2, 10.0);
        let event = |item| LogEvent { user: 0, item, time_ms: 0, kind: nearfield_engine::Kind::View };
        popularity.learn(&event(0));
        (0..10).for_each(|_| popularity.learn(&event(1)));
        popularity.levels[1] = f64::NEG_INFINITY;
        popularity.unit -= 1.0 / 10.0;
        popularity.learn(&event(1));
        let mut scores = [0.0; 2];
        popularity.scores(0, &mut scores);
        assert!((scores[0] + 1.0).abs() < 1e-6 && scores[1].abs() < 1e-6, "{scores:?}");
    }
}
