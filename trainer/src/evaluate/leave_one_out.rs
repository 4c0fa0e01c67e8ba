//! The leave-one-out protocol: one item that a person touched is ranked among sampled items that the
//! person did not touch (He et al. 2017, doi 10.1145/3038912.3052569).

use crate::evaluate::figures::Figures;
use crate::event_log::EventLog;
use anyhow::ensure;
use nearfield_engine::{ItemKey, Model, UserState, Workspace};
use std::collections::{HashMap, HashSet};
use std::io::Read;

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

/// Reads cases from CSV: user, target, time, then the negatives.
///
/// # Errors
/// What cannot be read, with its line.
pub fn read_cases(file: impl Read) -> anyhow::Result<Vec<Case>> {
    let mut cases = Vec::new();
    for record in csv::Reader::from_reader(file).records() {
        let record = record?;
        let line = record.position().map_or(0, csv::Position::line);
        ensure!(record.len() > 3, "line {line} has {} columns, at least 4 are needed", record.len());
        cases.push(Case {
            user: record[0].to_owned(),
            target: record[1].to_owned(),
            negatives: record.iter().skip(3).map(str::to_owned).collect(),
        });
    }
    Ok(cases)
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

/// Folds everyone's events in and ranks each case's target by the dot product of the factors. A case whose person
/// or target is unknown counts as a miss.
pub fn leave_one_out(log: &EventLog, model: &Model, cases: &[Case]) -> Figures {
    let users = indices(&log.users);
    let mut people: HashMap<u32, UserState> = HashMap::new();
    for (index, event) in log.events.iter().enumerate() {
        people.entry(event.user).or_default().remember(&log.event(index));
    }
    let mut figures = Figures::default();
    let (mut scores, mut workspace) = (Vec::new(), Workspace::new());
    for case in cases {
        let Some(person) = users.get(case.user.as_str()).and_then(|user| people.get_mut(user)) else {
            figures.add(None);
            continue;
        };
        person.factor_scores(model, &mut workspace, &mut scores);
        let score =
            |id: &String| model.row(ItemKey::of(id)).map_or(f32::NEG_INFINITY, |row| scores[row as usize]);
        let own = score(&case.target);
        let above = case.negatives.iter().filter(|id| score(id) > own).count();
        figures.add((own > f32::NEG_INFINITY).then_some(1.0 + above as f64));
    }
    figures.mean()
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
