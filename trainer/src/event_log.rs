//! Recorded events of many people, read from CSV: what training and evaluation begin with.

use nearfield_engine::event::{Event, Kind};
use nearfield_engine::limits::ITEM_ID_BYTES_MAX;
use std::collections::HashMap;
use std::fmt;
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

/// Why a file of events was refused.
#[derive(Debug)]
pub enum EventLogError {
    /// A column is not there.
    MissingColumn {
        /// Its name.
        column: &'static str,
        /// The names that are.
        found: String,
    },
    /// A line cannot be read.
    Line {
        /// Line of the file, the header being 1.
        line: u64,
        /// Column, or "line" for the whole.
        column: &'static str,
        /// What is wrong.
        what: String,
    },
    /// The file has no event.
    Empty,
}

impl fmt::Display for EventLogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingColumn { column, found } => {
                write!(f, "column {column:?} is missing; the header has {found}")
            }
            Self::Line { line, column, what } => write!(f, "line {line}, {column}: {what}"),
            Self::Empty => write!(f, "the file has no event"),
        }
    }
}

impl std::error::Error for EventLogError {}

/// Numbers below this are seconds, from it on milliseconds (10¹¹ s lies in the year 5138).
const SECONDS_BELOW: u64 = 100_000_000_000;

impl EventLog {
    /// Reads CSV with a header: `user`, `item`, mostly `timestamp` (seconds or milliseconds), and a
    /// free fourth column `event`, which is used where it holds kinds and ignored otherwise.
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
    /// # Ok::<(), nearfield_trainer::event_log::EventLogError>(())
    /// ```
    pub fn read_csv(reader: impl Read) -> Result<Self, EventLogError> {
        let mut reader = csv::Reader::from_reader(reader);
        let header = reader.headers().map_err(|error| line_error(1, "line", error))?.clone();
        let column_at = |name: &str| header.iter().position(|column| column.trim() == name);
        let need = |column: &'static str| {
            column_at(column).ok_or_else(|| EventLogError::MissingColumn {
                column,
                found: header.iter().collect::<Vec<_>>().join(", "),
            })
        };
        let (user_at, item_at) = (need("user")?, need("item")?);
        let (time_at, kind_at) = (column_at("timestamp"), column_at("event"));

        let mut log = Self { timed: time_at.is_some(), ..Self::default() };
        let (mut users, mut items) = (HashMap::new(), HashMap::new());
        let mut has_kinds = None;
        let mut record = csv::StringRecord::new();
        loop {
            let line = reader.position().line();
            if !reader.read_record(&mut record).map_err(|error| line_error(line, "line", error))? {
                break;
            }
            let line = record.position().map_or(line, csv::Position::line);
            let item = &record[item_at];
            if item.is_empty() || item.len() > ITEM_ID_BYTES_MAX {
                let what = format!("the id has {} bytes, the limit is 1 to {ITEM_ID_BYTES_MAX}", item.len());
                return Err(EventLogError::Line { line, column: "item", what });
            }
            let time_ms = match time_at {
                None => line,
                Some(at) => {
                    let time: f64 =
                        record[at].parse().map_err(|error| line_error(line, "timestamp", error))?;
                    if !(0.0..1e15).contains(&time) {
                        let what = format!("{:?} is not a time in seconds or milliseconds", &record[at]);
                        return Err(EventLogError::Line { line, column: "timestamp", what });
                    }
                    if time < SECONDS_BELOW as f64 { (time * 1000.0) as u64 } else { time as u64 }
                }
            };
            let kind = match kind_at {
                Some(at) if *has_kinds.get_or_insert_with(|| Kind::parse(&record[at]).is_ok()) => {
                    Kind::parse(&record[at]).map_err(|error| line_error(line, "event", error))?
                }
                _ => Kind::View,
            };
            log.events.push(LogEvent {
                user: index(&mut users, &mut log.users, &record[user_at]),
                item: index(&mut items, &mut log.items, item),
                time_ms,
                kind,
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

fn line_error(line: u64, column: &'static str, error: impl fmt::Display) -> EventLogError {
    EventLogError::Line { line, column, what: error.to_string() }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_line_is_named() {
        let cases = [
            ("user,item,timestamp\na,b,1\na,b\n", "line 3, line: "),
            ("user,item,timestamp\na,b,soon\n", "line 2, timestamp: "),
            ("user,item,timestamp\na,,1\n", "line 2, item: the id has 0 bytes"),
            (
                "user,item,timestamp,event\na,b,1,view\na,b,2,poke\n",
                "line 3, event: kind \"poke\" is unknown",
            ),
            ("user,item,timestamp\n", "the file has no event"),
        ];
        for (text, start) in cases {
            let error = EventLog::read_csv(text.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(start), "{error:?} should start with {start:?}");
        }
    }

    #[test]
    fn a_free_fourth_column_is_ignored() {
        let log = EventLog::read_csv("user,item,timestamp,event\na,b,1,4\n".as_bytes()).unwrap();
        assert_eq!(log.events[0].kind, Kind::View);
    }
}
