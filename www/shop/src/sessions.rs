//! The visits that the page replays: the part of the log after the split, by person and visit.

use crate::events::{Event, EventKind};
use serde::Serialize;
use std::collections::HashMap;

/// A pause longer than this ends a visit, in milliseconds (half an hour, as GA4 counts).
const VISIT_GAP_MS: u64 = 30 * 60 * 1000;
/// Ceiling of `shoppers.json`, in bytes (a choice: what a page may load without a thought).
pub const SHOPPERS_BYTES_MAX: usize = 4_000_000;

/// One visit: `[user, start_ms, [[item, offset_ms, kind], …]]`, times after [`Shoppers::start_ms`] and after
/// the visit's start.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Session(pub u32, pub u64, pub Vec<(u32, u64, u8)>);

/// What `shoppers.json` holds.
#[derive(Debug, Serialize)]
pub struct Shoppers {
    /// Time of the first event, in milliseconds since 1970.
    pub start_ms: u64,
    /// Names of the kinds by number.
    pub kinds: [&'static str; 4],
    /// Number of people; users are numbers below it.
    pub users: u32,
    /// Visits by the time of their first event.
    pub sessions: Vec<Session>,
    /// Visits left out to keep the file below its ceiling; always the last ones.
    pub left_out: usize,
}

/// The number of events that belong to training: the first `until_fraction` of the file.
pub fn split(events: usize, until_fraction: f64) -> usize {
    ((events as f64 * until_fraction) as usize).min(events)
}

/// The visits in `events` (the part after the split), with items by their index in the catalogue.
///
/// Items that `index` does not know are a caller's mistake, for the catalogue is made of the same events.
pub fn sessions(events: &[Event], index: &HashMap<&str, u32>, bytes_max: usize) -> Shoppers {
    let start_ms = events.iter().map(|event| event.time_ms).min().unwrap_or(0);
    let mut order: Vec<&Event> = events.iter().collect();
    order.sort_by_key(|event| event.time_ms);

    let mut users: HashMap<&str, (u32, usize, u64)> = HashMap::new();
    let mut sessions: Vec<Session> = Vec::new();
    for event in order {
        let item = index[event.item.as_str()];
        let kind =
            EventKind::ALL.iter().position(|kind| *kind == event.kind).expect("every kind is listed") as u8;
        let fresh = users.len() as u32;
        let (user, open, last_ms) = users.entry(&event.user).or_insert((fresh, usize::MAX, 0));
        if *open == usize::MAX || event.time_ms - *last_ms > VISIT_GAP_MS {
            *open = sessions.len();
            sessions.push(Session(*user, event.time_ms - start_ms, Vec::new()));
        }
        *last_ms = event.time_ms;
        let session = &mut sessions[*open];
        session.2.push((item, event.time_ms - start_ms - session.1, kind));
    }

    let all = sessions.len();
    let mut bytes = 256;
    let kept = sessions
        .iter()
        .take_while(|session| {
            bytes += text_bytes(session);
            bytes <= bytes_max
        })
        .count();
    sessions.truncate(kept);
    Shoppers {
        start_ms,
        kinds: EventKind::ALL.map(EventKind::as_str),
        users: users.len() as u32,
        sessions,
        left_out: all - kept,
    }
}

/// Bytes of a visit as JSON, with its comma.
fn text_bytes(session: &Session) -> usize {
    serde_json::to_string(session).expect("numbers have a JSON form").len() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(user: &str, item: &str, minute: u64) -> Event {
        Event {
            user: user.to_owned(),
            item: item.to_owned(),
            time_ms: 1_000_000_000 + minute * 60_000,
            kind: EventKind::View,
        }
    }

    #[test]
    fn a_long_pause_starts_another_visit() {
        let events =
            [event("ann", "a", 0), event("bob", "b", 1), event("ann", "b", 20), event("ann", "a", 51)];
        let index = HashMap::from([("a", 0), ("b", 1)]);
        let shoppers = sessions(&events, &index, SHOPPERS_BYTES_MAX);
        assert_eq!(
            shoppers.sessions,
            [
                Session(0, 0, vec![(0, 0, 0), (1, 1_200_000, 0)]),
                Session(1, 60_000, vec![(1, 0, 0)]),
                Session(0, 3_060_000, vec![(0, 0, 0)]),
            ]
        );
        assert_eq!((shoppers.users, shoppers.left_out), (2, 0));
    }

    #[test]
    fn the_file_stays_below_its_ceiling_and_says_what_it_left_out() {
        let events: Vec<Event> = (0..500).map(|n| event(&format!("u{n}"), "a", n)).collect();
        let shoppers = sessions(&events, &HashMap::from([("a", 0)]), 4_000);
        let text = serde_json::to_string(&shoppers).expect("it has a JSON form");
        assert!(text.len() <= 4_000, "{} bytes", text.len());
        assert!(shoppers.sessions.len() > 50);
        assert_eq!(shoppers.sessions.len() + shoppers.left_out, 500);
    }
}
