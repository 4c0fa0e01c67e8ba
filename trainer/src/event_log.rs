//! Recorded events of many people, read from CSV: what training and evaluation begin with.

use crate::recorded::{EventLogError, Recorded};
use nearfield_engine::event::{Event, Kind};
use nearfield_events::StreamEvent;
use std::collections::HashMap;
use std::io::Read;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// One recorded event; people and items are indices into the log's lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEvent {
    /// Index of the person.
    pub user: u32,
    /// Index of the item in [`EventLog::items`].
    pub item: u32,
    /// Milliseconds since 1970-01-01 UTC; the line's number where the file has no time.
    pub time_ms: u64,
    /// What happened.
    pub kind: Kind,
}

/// Events in file order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventLog {
    /// Names of the people, by first appearance.
    pub users: Vec<String>,
    /// Ids of the items, by first appearance.
    pub items: Vec<String>,
    /// The events.
    pub events: Vec<LogEvent>,
    /// Whether the file has a column of times.
    pub timed: bool,
}

impl EventLog {
    /// Reads CSV as [`Recorded`] does.
    ///
    /// # Errors
    /// [`EventLogError`] names the column, or the line.
    ///
    /// ```
    /// use nearfield_trainer::event_log::EventLog;
    /// let log = EventLog::read_csv("user,item,timestamp\nann,tent,1700000000\n".as_bytes())?;
    /// assert_eq!(log.events[0].time_ms, 1_700_000_000_000);
    /// let error = EventLog::read_csv("user,thing\n".as_bytes()).unwrap_err();
    /// assert_eq!(error.to_string(), "column \"item\" is missing; the header has user, thing");
    /// # Ok::<(), nearfield_trainer::recorded::EventLogError>(())
    /// ```
    pub fn read_csv(reader: impl Read) -> Result<Self, EventLogError> {
        let mut recorded = Recorded::open(reader)?;
        let mut log = Self { timed: recorded.timed(), ..Self::default() };
        let (mut users, mut items) = (HashMap::new(), HashMap::new());
        while let Some(StreamEvent { user_id, event, .. }) = recorded.next()? {
            // A search has no item to learn of.
            if event.item_id.is_empty() {
                continue;
            }
            log.events.push(LogEvent {
                user: index(&mut users, &mut log.users, &user_id),
                item: index(&mut items, &mut log.items, &event.item_id),
                time_ms: event.time_ms,
                kind: event.kind,
            });
        }
        if log.events.is_empty() {
            return Err(EventLogError::Empty);
        }
        Ok(log)
    }

    /// Returns a recorded event as the device sees it.
    pub fn event(&self, index: usize) -> Event {
        let recorded = self.events[index];
        Event::new(recorded.kind, self.items[recorded.item as usize].clone(), recorded.time_ms)
    }

    /// Orders the events of each day (UTC) by a hash under `seed`, and leaves their times as slots: what
    /// remains of a figure then does not come from the order within a day.
    pub fn shuffle_within_day(&mut self, seed: u64) {
        let mut order: Vec<(u64, u64, usize)> = (0..self.events.len())
            .map(|index| {
                let mut hasher = blake3::Hasher::new();
                hasher.update(&seed.to_le_bytes());
                hasher.update(&(index as u64).to_le_bytes());
                let mut key = [0; 8];
                key.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
                (self.events[index].time_ms / DAY_MS, u64::from_le_bytes(key), index)
            })
            .collect();
        order.sort_unstable();
        let mut times: Vec<u64> = self.events.iter().map(|event| event.time_ms).collect();
        times.sort_unstable();
        self.events = order
            .iter()
            .zip(times)
            .map(|((.., index), time_ms)| LogEvent { time_ms, ..self.events[*index] })
            .collect();
    }
}

fn index(known: &mut HashMap<String, u32>, names: &mut Vec<String>, name: &str) -> u32 {
    if let Some(index) = known.get(name) {
        return *index;
    }
    let index = names.len() as u32;
    known.insert(name.to_owned(), index);
    names.push(name.to_owned());
    index
}
