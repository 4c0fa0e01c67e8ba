//! The protocol of unseen people: they are kept out of training, four fifths of their items are folded
//! in, and the rest are to be found (Liang et al. 2018, doi 10.1145/3178876.3186150).

use crate::evaluate::figures::mean_and_error;
use crate::event_log::EventLog;
use crate::numpy;
use nearfield_engine::{Event, ItemKey, Kind, Model, UserState, Workspace};
use serde::Serialize;
use std::collections::{HashMap, HashSet};

/// Share of a test user's items that is folded in.
const FOLDED_SHARE: f64 = 0.8;

/// Means over the test users who have items on both sides of the cut.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct HoldoutUsers {
    /// Number of test users.
    pub n: u64,
    /// Hits among the first 20, relative to the most that there could be.
    pub recall20: f64,
    /// Its standard error.
    pub recall20_se: f64,
    /// Hits among the first 50, relative to the most that there could be.
    pub recall50: f64,
    /// Its standard error.
    pub recall50_se: f64,
    /// NDCG of the first 100.
    pub ndcg100: f64,
    /// Its standard error.
    pub ndcg100_se: f64,
}

/// Returns `count` test users, chosen as numpy's `default_rng(seed).permutation` would: the last of
/// the permutation.
///
/// # Panics
/// When `count` is larger than the number of users.
pub fn test_users(log: &EventLog, seed: u64, count: usize) -> Vec<u32> {
    let order = numpy::permutation(seed, log.users.len());
    // Users as numpy would number them: in rising order of their ids where those are numbers.
    let mut numbered: Vec<u32> = (0..log.users.len() as u32).collect();
    numbered.sort_by_key(|user| {
        let name = &log.users[*user as usize];
        (name.parse::<u64>().unwrap_or(u64::MAX), name.clone())
    });
    order[order.len() - count..].iter().map(|index| numbered[*index as usize]).collect()
}

/// Returns the log without the events of the test users: what the model is trained on.
pub fn without(log: &EventLog, test: &[u32]) -> EventLog {
    let test: HashSet<u32> = test.iter().copied().collect();
    let events = log.events.iter().copied().filter(|event| !test.contains(&event.user)).collect();
    EventLog { events, ..log.clone() }
}

/// Folds four fifths of each test user's items in, ranks all others by the dot product of the factors,
/// and looks for the rest of the user's items.
pub fn holdout_users(log: &EventLog, model: &Model, test: &[u32]) -> HoldoutUsers {
    let mut by_user: HashMap<u32, Vec<u32>> = test.iter().map(|user| (*user, Vec::new())).collect();
    for event in &log.events {
        if let Some(items) = by_user.get_mut(&event.user) {
            items.push(event.item);
        }
    }
    let (mut recall20, mut recall50, mut ndcg100) = (Vec::new(), Vec::new(), Vec::new());
    let (mut scores, mut workspace) = (Vec::new(), Workspace::new());
    for user in test {
        let items = &by_user[user];
        let cut = (items.len() as f64 * FOLDED_SHARE) as usize;
        if cut == 0 || cut == items.len() {
            continue;
        }
        let mut person = UserState::new();
        for (index, item) in items[..cut].iter().enumerate() {
            let event = Event::new(Kind::View, log.items[*item as usize].clone(), index as u64);
            person.learn(model, &event, index as u64).expect("the log holds item ids within their limits");
        }
        person.factor_scores(model, &mut workspace, &mut scores);
        let row = |item: &u32| model.row(ItemKey::of(&log.items[*item as usize]));
        let folded: HashSet<u32> = items[..cut].iter().filter_map(row).collect();
        let targets: HashSet<u32> = items[cut..].iter().filter_map(row).collect();
        let mut ranked: Vec<u32> = (0..model.len() as u32).filter(|row| !folded.contains(row)).collect();
        ranked.sort_by(|a, b| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b)));
        let held_out = items.len() - cut;
        let hits =
            |count: usize| ranked.iter().take(count).filter(|row| targets.contains(row)).count() as f64;
        recall20.push(hits(20) / held_out.min(20) as f64);
        recall50.push(hits(50) / held_out.min(50) as f64);
        let discount = |index: usize| 1.0 / (2.0 + index as f64).log2();
        let gain: f64 = ranked
            .iter()
            .take(100)
            .enumerate()
            .filter(|(_, row)| targets.contains(row))
            .map(|(index, _)| discount(index))
            .sum();
        ndcg100.push(gain / (0..held_out.min(100)).map(discount).sum::<f64>());
    }
    let mean = |values: &[f64]| {
        let squares = values.iter().map(|value| value * value).sum();
        mean_and_error(values.len() as u64, values.iter().sum(), squares)
    };
    let (n, [recall20, recall50, ndcg100]) =
        (ndcg100.len() as u64, [recall20, recall50, ndcg100].map(|values| mean(&values)));
    HoldoutUsers {
        n,
        recall20: recall20.0,
        recall20_se: recall20.1,
        recall50: recall50.0,
        recall50_se: recall50.1,
        ndcg100: ndcg100.0,
        ndcg100_se: ndcg100.1,
    }
}
