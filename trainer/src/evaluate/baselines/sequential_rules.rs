//! Sequential rules, learned live: what followed the last item, nearer followers counting more.
//!
//! ```text
//! score(i) = Σ_sessions Σ_{distance x ≤ 10} [i came x events after the last item] · 1/x
//! ```
//!
//! Ludewig and Jannach (2018), doi 10.1007/s11257-018-9209-6: window of 10, weight 1/distance. The
//! published division by the item's total is one constant for each list and is left out; so is the
//! pruning of rules, which saves room only.

use super::{Baseline, is_positive};
use crate::event_log::LogEvent;
use nearfield_engine::limits::SESSION_GAP_MS;
use std::collections::{BTreeMap, HashMap, VecDeque};

/// Events that a follower may lie behind its leader.
const WINDOW: usize = 10;

/// Rules item → follower, and each person's last events.
#[derive(Clone, Debug)]
pub struct SequentialRules {
    rules: Vec<HashMap<u32, f32>>,
    people: HashMap<u32, (u64, VecDeque<u32>)>,
}

impl SequentialRules {
    /// Returns no rules yet, for `items` items.
    pub fn new(items: usize) -> Self {
        Self { rules: vec![HashMap::new(); items], people: HashMap::new() }
    }
}

impl Baseline for SequentialRules {
    fn name(&self) -> &'static str {
        "sequential rules"
    }

    fn parameters(&self) -> BTreeMap<&'static str, f64> {
        BTreeMap::from([("window_events", WINDOW as f64), ("sitting_gap_s", SESSION_GAP_MS as f64 / 1000.0)])
    }

    fn scores(&mut self, person: u32, out: &mut [f32]) {
        let Some((_, session)) = self.people.get(&person) else { return };
        let Some(last) = session.back() else { return };
        for (follower, weight) in &self.rules[*last as usize] {
            out[*follower as usize] = *weight;
        }
    }

    fn learn(&mut self, event: &LogEvent) {
        if !is_positive(event) {
            return;
        }
        let (last_ms, session) = self.people.entry(event.user).or_default();
        if event.time_ms.saturating_sub(*last_ms) > SESSION_GAP_MS {
            session.clear();
        }
        *last_ms = event.time_ms;
        for (distance, leader) in (1u8..).zip(session.iter().rev()) {
            *self.rules[*leader as usize].entry(event.item).or_insert(0.0) += 1.0 / f32::from(distance);
        }
        if session.len() == WINDOW {
            session.pop_front();
        }
        session.push_back(event.item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::baselines::{replay, tests::log};
    use crate::evaluate::outcomes::Stream;
    use nearfield_engine::Hyperparameters;

    #[test]
    fn on_a_strict_cycle_the_next_item_comes_first() {
        let cycle = ["a", "b", "c"];
        let log = log((0..60).map(|at| ("u".into(), cycle[at as usize % 3].into(), at)));
        let stream = Stream::new(&log, &Hyperparameters::starting_point());
        let mut rules = SequentialRules::new(stream.items);
        let outcomes = replay(&stream, 30..60, &mut rules, 10.0, &|_| {});
        assert!(outcomes.ranked().iter().all(|ranked| ranked.all == 1.0), "{:?}", outcomes.ranked());
    }

    #[test]
    fn a_rule_weighs_one_over_the_distance_and_ends_with_the_session() {
        let event = |item, time_ms| LogEvent { user: 0, item, time_ms, kind: nearfield_engine::Kind::View };
        let mut rules = SequentialRules::new(4);
        [event(0, 0), event(1, 1), event(2, 2), event(3, 3 + SESSION_GAP_MS)]
            .iter()
            .for_each(|e| rules.learn(e));
        assert_eq!(rules.rules[0], HashMap::from([(1, 1.0), (2, 0.5)]));
        assert_eq!(rules.rules[2], HashMap::new());
    }
}
