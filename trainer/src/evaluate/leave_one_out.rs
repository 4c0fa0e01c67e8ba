//! The leave-one-out protocol: one item that a person touched is ranked among sampled items that the
//! person did not touch (He et al. 2017, doi 10.1145/3038912.3052569).

use crate::event_log::EventLog;
use nearfield_engine::{ItemKey, Model, UserState, Workspace};
use serde::Serialize;
use std::collections::{HashMap, HashSet};

/// What is asked of one person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Name of the person.
    pub user: String,
    /// Id of the item that was left out.
    pub target: String,
    /// Ids of the items that it is ranked among.
    pub negatives: Vec<String>,
}

/// Means over all cases; a case whose person or target is unknown counts as a miss.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LeaveOneOut {
    /// Number of cases.
    pub n: u64,
    /// Hit rate: share of cases whose target is among the first ten.
    pub hr10: f64,
    /// Mean NDCG of the first ten.
    pub ndcg10: f64,
}

/// Drops the pairs that the cases ask for: a file of all pairs holds them too.
pub fn leave_out(log: &mut EventLog, cases: &[Case]) {
    let users = indices(&log.users);
    let items = indices(&log.items);
    let pairs: HashSet<(u32, u32)> = cases
        .iter()
        .filter_map(|case| Some((*users.get(case.user.as_str())?, *items.get(case.target.as_str())?)))
        .collect();
    log.events.retain(|event| !pairs.contains(&(event.user, event.item)));
}

/// Folds everyone's events in and ranks each case's target by the dot product of the factors.
pub fn leave_one_out(log: &EventLog, model: &Model, cases: &[Case]) -> LeaveOneOut {
    let users = indices(&log.users);
    let mut people: HashMap<u32, UserState> = HashMap::new();
    for (index, event) in log.events.iter().enumerate() {
        people.entry(event.user).or_default().remember(&log.event(index));
    }
    let (mut hits, mut gain) = (0.0, 0.0);
    let (mut scores, mut workspace) = (Vec::new(), Workspace::new());
    for case in cases {
        let Some(person) = users.get(case.user.as_str()).and_then(|user| people.get_mut(user)) else {
            continue;
        };
        person.factor_scores(model, &mut workspace, &mut scores);
        let score =
            |id: &String| model.row(ItemKey::of(id)).map_or(f32::NEG_INFINITY, |row| scores[row as usize]);
        let own = score(&case.target);
        let above = case.negatives.iter().filter(|id| score(id) > own).count();
        if above < 10 && own > f32::NEG_INFINITY {
            hits += 1.0;
            gain += 1.0 / (2.0 + above as f64).log2();
        }
    }
    let n = cases.len().max(1) as f64;
    LeaveOneOut { n: cases.len() as u64, hr10: hits / n, ndcg10: gain / n }
}

fn indices(names: &[String]) -> HashMap<&str, u32> {
    names.iter().enumerate().map(|(index, name)| (name.as_str(), index as u32)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_cases_ask_for_is_not_trained_on() {
        let case = |user: &str, target: &str| Case {
            user: user.to_owned(),
            target: target.to_owned(),
            negatives: vec!["y".to_owned()],
        };
        let mut log = EventLog::read_csv("user,item\na,x\na,y\nb,x\n".as_bytes()).unwrap();
        leave_out(&mut log, &[case("a", "x"), case("b", "unknown")]);
        let left: Vec<(u32, u32)> = log.events.iter().map(|event| (event.user, event.item)).collect();
        assert_eq!(left, [(0, 1), (1, 0)]);
    }
}
