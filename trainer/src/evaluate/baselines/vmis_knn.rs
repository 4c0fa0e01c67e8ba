//! VMIS-kNN, the session-based nearest neighbours of Serenade, learned live.
//!
//! ```text
//! N_m(s)     the m most recent sessions that share an item with the open session s
//! r_n        Σ_{i ∈ s ∩ n} ω_i           ω_i = place of i in s (1 is the oldest) / distinct items of s
//! score(i) = Σ_{n among the k of N_m(s) with the largest r_n, i ∈ n} λ(x_n) · r_n · ln(|H| / h_i)
//! ```
//!
//! with x_n how many events ago the newest shared item came (1 is the last event), λ(x) = 1 − x/10
//! and 0 from 10 on, h_i the sessions with i among |H|. Kersbergen, Sprangers, Schelter (2022), doi
//! 10.1145/3514221.3517901, whose m = 500 and k = 100 are used here.
//!
//! The published program builds its index once and leaves the last item of the session out of its
//! lists. Here the index grows with every event, and the last item stays in: repeats are targets of
//! the stream too.

use super::{Baseline, is_positive};
use crate::event_log::LogEvent;
use nearfield_engine::limits::SESSION_GAP_MS;
use std::collections::{BTreeMap, HashMap};

/// m: the most recent sessions looked at.
const RECENT: usize = 500;

/// k: neighbours that vote.
const NEIGHBOURS: usize = 100;

/// A session, open or past.
#[derive(Clone, Debug, Default)]
struct Session {
    /// Distinct items, by first appearance.
    items: Vec<u32>,
    /// Count of all events when it last grew: its age.
    last: u64,
}

/// What a session shares with the open one.
#[derive(Clone, Copy, Debug, Default)]
struct Match {
    similarity: f32,
    /// λ of the newest shared item.
    newest: f32,
}

/// Everyone's sessions, and for each item the sessions that hold it, oldest first.
#[derive(Clone, Debug)]
pub struct VmisKnn {
    sessions: Vec<Session>,
    by_item: Vec<Vec<u32>>,
    /// Each person's open session: its index, the time of its last event, all its events.
    open: HashMap<u32, (u32, u64, Vec<u32>)>,
    events: u64,
    /// Room for a query: matches by session, and which of them are set.
    matches: Vec<Match>,
    matched: Vec<u32>,
}

impl VmisKnn {
    /// Returns an empty index for `items` items.
    pub fn new(items: usize) -> Self {
        Self {
            sessions: Vec::new(),
            by_item: vec![Vec::new(); items],
            open: HashMap::new(),
            events: 0,
            matches: Vec::new(),
            matched: Vec::new(),
        }
    }

    /// Finds the neighbours of a session: their indices in `matched`, what they share in `matches`.
    fn find_neighbours(&mut self, own: u32, events: &[u32]) {
        self.matched.iter().for_each(|session| self.matches[*session as usize] = Match::default());
        self.matched.clear();
        self.matches.resize(self.sessions.len(), Match::default());
        let distinct = self.sessions[own as usize].items.len() as f32;
        let mut met = std::collections::HashSet::new();
        for (ago, item) in events.iter().rev().enumerate() {
            if !met.insert(*item) {
                continue;
            }
            let weight = (events.len() - ago) as f32 / distinct;
            for session in
                self.by_item[*item as usize].iter().rev().take(RECENT).filter(|found| **found != own)
            {
                let found = &mut self.matches[*session as usize];
                if found.similarity == 0.0 {
                    self.matched.push(*session);
                    found.newest = (1.0 - 0.1 * (ago + 1) as f32).max(0.0);
                }
                found.similarity += weight;
            }
        }
        let Self { sessions, matches, matched, .. } = self;
        let age = |session: &u32| std::cmp::Reverse(sessions[*session as usize].last);
        if matched.len() > RECENT {
            matched.select_nth_unstable_by_key(RECENT, age);
            matched.drain(RECENT..).for_each(|session| matches[session as usize] = Match::default());
        }
        // Of equally similar sessions the more recent one votes.
        matched.sort_unstable_by(|a, b| {
            let (left, right) = (matches[*a as usize].similarity, matches[*b as usize].similarity);
            right.total_cmp(&left).then(age(a).cmp(&age(b)))
        });
        if matched.len() > NEIGHBOURS {
            matched.drain(NEIGHBOURS..).for_each(|session| matches[session as usize] = Match::default());
        }
    }
}

impl Baseline for VmisKnn {
    fn name(&self) -> &'static str {
        "VMIS-kNN"
    }

    fn parameters(&self) -> BTreeMap<&'static str, f64> {
        BTreeMap::from([
            ("m_recent_sittings", RECENT as f64),
            ("k_neighbours", NEIGHBOURS as f64),
            ("sitting_gap_s", SESSION_GAP_MS as f64 / 1000.0),
        ])
    }

    fn scores(&mut self, person: u32, out: &mut [f32]) {
        let Some((own, last_ms, events)) = self.open.remove(&person) else { return };
        self.find_neighbours(own, &events);
        let all = self.sessions.len() as f32;
        for session in &self.matched {
            let found = self.matches[*session as usize];
            if found.newest == 0.0 {
                continue;
            }
            for item in &self.sessions[*session as usize].items {
                let holders = self.by_item[*item as usize].len() as f32;
                let score = &mut out[*item as usize];
                *score = score.max(0.0) + found.newest * found.similarity * (all / holders).ln();
            }
        }
        self.open.insert(person, (own, last_ms, events));
    }

    fn learn(&mut self, event: &LogEvent) {
        if !is_positive(event) {
            return;
        }
        self.events += 1;
        let next = self.sessions.len() as u32;
        let (own, last_ms, events) =
            self.open.entry(event.user).or_insert_with(|| (u32::MAX, event.time_ms, Vec::new()));
        if *own == u32::MAX || event.time_ms.saturating_sub(*last_ms) > SESSION_GAP_MS {
            *own = next;
            events.clear();
            self.sessions.push(Session::default());
        }
        *last_ms = event.time_ms;
        events.push(event.item);
        let session = &mut self.sessions[*own as usize];
        session.last = self.events;
        if !session.items.contains(&event.item) {
            session.items.push(event.item);
            self.by_item[event.item as usize].push(*own);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::baselines::{replay, tests::log};
    use crate::evaluate::outcomes::{Stream, top_ten};
    use nearfield_engine::Hyperparameters;

    #[test]
    fn a_session_is_shown_the_rest_of_its_own_group() {
        // Two groups of five items; every person visits four items of one group in turn.
        let events = (0..400).map(|at| {
            let person = at / 4;
            (format!("u{person}"), format!("g{}-{}", person % 2, (person / 2 + at) % 5), at)
        });
        let log = log(events);
        let stream = Stream::new(&log, &Hyperparameters::starting_point());
        let mut knn = VmisKnn::new(stream.items);
        let outcomes = replay(&stream, 200..400, &mut knn, 100.0, &|_| {});
        // With some history only the four others of the group are proposed.
        let known: Vec<_> = outcomes.ranked().iter().filter(|ranked| ranked.bucket > 0).collect();
        assert_eq!(known.len(), 150);
        assert!(known.iter().all(|ranked| ranked.novel.is_some_and(|rank| rank <= 4.0)), "{known:?}");
    }

    #[test]
    fn the_newest_item_counts_most_and_common_items_least() {
        let mut knn = VmisKnn::new(6);
        let mut time_ms = 0;
        let mut session = |knn: &mut VmisKnn, user: u32, items: &[u32]| {
            for item in items {
                time_ms += 1;
                knn.learn(&LogEvent { user, item: *item, time_ms, kind: nearfield_engine::Kind::View });
            }
        };
        // 0 leads to 2, 1 leads to 3, and 5 is in every session.
        for user in 0..4 {
            session(&mut knn, user * 2, &[0, 2, 5]);
            session(&mut knn, user * 2 + 1, &[1, 3, 5]);
        }
        session(&mut knn, 100, &[0, 1]);
        let mut scores = vec![f32::NEG_INFINITY; 6];
        knn.scores(100, &mut scores);
        // Weights: sessions with 1 have ω = 2/2 and λ = .9, those with 0 have ω = 1/2 and λ = .8.
        assert!((scores[3] - 4.0 * 0.9 * (9.0f32 / 4.0).ln()).abs() < 1e-5, "{scores:?}");
        assert!((scores[2] - 4.0 * 0.8 * 0.5 * (9.0f32 / 4.0).ln()).abs() < 1e-5, "{scores:?}");
        assert!(scores[5] < scores[3], "{scores:?}");
        assert_eq!(scores[4], f32::NEG_INFINITY);
        assert_eq!(top_ten(&scores)[0], 3);
    }
}
