//! The shop that is asked for lists, and the people who ask.

use crate::browsing;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Items of the shop: of so many, some 10,000 are taken by somebody and enter the model.
pub(crate) const ITEMS: usize = 10_560;
/// People of the log.
const PEOPLE: usize = 5000;
/// Events of a visit.
const VISIT: usize = 5;

/// A log of people who browse.
pub(crate) struct Shop {
    /// It, as the trainer reads it.
    pub(crate) events: String,
    /// It, as serenade reads it: session, item, time; a visit is a session.
    pub(crate) sessions: String,
    /// The items that each person took, the first one first.
    pub(crate) people: Vec<Vec<String>>,
}

impl Shop {
    /// People walk through a shop.
    pub(crate) fn open() -> Result<Self> {
        let events = browsing::events(ITEMS, PEOPLE);
        let mut sessions = String::from("SessionId\tItemId\tTime\n");
        let mut people: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for (line, event) in events.lines().skip(1).enumerate() {
            let mut cells = event.split(',');
            let mut cell = || cells.next().context("a line of the log has four cells");
            let (person, item, seconds) = (cell()?, cell()?, cell()?);
            let _ = writeln!(sessions, "{}\t{item}\t{seconds}", line / VISIT + 1);
            people.entry(person.parse()?).or_default().push(item.to_owned());
        }
        Ok(Self { events, sessions, people: people.into_values().collect() })
    }

    /// An item of a person's taste.
    pub(crate) fn item(&self, person: usize, draw: usize) -> &str {
        let items = &self.people[person % self.people.len()];
        &items[draw % items.len()]
    }
}
