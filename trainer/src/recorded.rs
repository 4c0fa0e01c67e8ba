//! Recorded events, one by one, from CSV: what every command begins with.

use nearfield_engine::event::{Context, Event, Kind};
use nearfield_engine::limits::ITEM_ID_BYTES_MAX;
use nearfield_events::StreamEvent;
use std::fmt;
use std::io::Read;
use std::str::FromStr;

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

/// Columns that need not be there.
const OPTIONAL: [&str; 10] = [
    "event",
    "event_id",
    "value",
    "session",
    "query",
    "utc_offset_minutes",
    "device",
    "referrer",
    "price",
    "category",
];

/// A file of events: CSV with a header that names `user`, `item`, mostly `timestamp` (seconds or milliseconds), and
/// perhaps any of `event`, `event_id`, `value`, `session`, `query`, `utc_offset_minutes`, `device`, `referrer`,
/// `price`, `category`, which are those of the event contract; an empty field is none. `event` is the kind where the
/// column holds kinds, and is ignored otherwise.
#[derive(Debug)]
pub struct Recorded<R> {
    reader: csv::Reader<R>,
    record: csv::StringRecord,
    user_at: usize,
    item_at: usize,
    time_at: Option<usize>,
    optional: [Option<usize>; OPTIONAL.len()],
    has_kinds: Option<bool>,
}

impl<R: Read> Recorded<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// [`EventLogError::MissingColumn`].
    pub fn open(reader: R) -> Result<Self, EventLogError> {
        let mut reader = csv::Reader::from_reader(reader);
        let header = reader.headers().map_err(|error| line_error(1, "line", error))?;
        let column_at = |name: &str| header.iter().position(|column| column.trim() == name);
        let need = |column: &'static str| {
            column_at(column).ok_or_else(|| EventLogError::MissingColumn {
                column,
                found: header.iter().collect::<Vec<_>>().join(", "),
            })
        };
        let (user_at, item_at, time_at) = (need("user")?, need("item")?, column_at("timestamp"));
        let optional = OPTIONAL.map(column_at);
        Ok(Self {
            record: csv::StringRecord::new(),
            reader,
            user_at,
            item_at,
            time_at,
            optional,
            has_kinds: None,
        })
    }

    /// Returns whether the file has a column of times.
    pub fn timed(&self) -> bool {
        self.time_at.is_some()
    }

    /// Returns the next event, none at the end. Without a column of times an event's time is its line.
    ///
    /// # Errors
    /// [`EventLogError::Line`] names the line and the column.
    #[expect(clippy::should_implement_trait, reason = "an iterator could not end at the first error")]
    pub fn next(&mut self) -> Result<Option<StreamEvent>, EventLogError> {
        let line = self.reader.position().line();
        if !self.reader.read_record(&mut self.record).map_err(|error| line_error(line, "line", error))? {
            return Ok(None);
        }
        let line = self.record.position().map_or(line, csv::Position::line);
        let kind = self.kind(line)?;
        let [_, event_id, value, session, query, utc_offset, device, referrer, price, category] =
            self.optional.map(|at| at.map(|at| &self.record[at]).filter(|field| !field.is_empty()));
        let text = |field: Option<&str>| field.map(str::to_owned);
        let item = &self.record[self.item_at];
        if item.len() > ITEM_ID_BYTES_MAX || (item.is_empty() && kind != Kind::Search) {
            let what = format!("the id has {} bytes, the limit is 1 to {ITEM_ID_BYTES_MAX}", item.len());
            return Err(EventLogError::Line { line, column: "item", what });
        }
        let event = Event {
            kind,
            item_id: item.to_owned(),
            time_ms: self.time_ms(line)?,
            event_id: text(event_id),
            value: number(value, line, "value")?,
            session_id: text(session),
        };
        let context = Context {
            utc_offset_minutes: number(utc_offset, line, "utc_offset_minutes")?,
            device: text(device),
            referrer: text(referrer),
            price: number(price, line, "price")?,
            category: text(category),
        };
        let user_id = self.record[self.user_at].to_owned();
        Ok(Some(StreamEvent { user_id, event, query: text(query), context }))
    }

    fn kind(&mut self, line: u64) -> Result<Kind, EventLogError> {
        let Some(at) = self.optional[0] else { return Ok(Kind::View) };
        let word = &self.record[at];
        if !*self.has_kinds.get_or_insert_with(|| Kind::parse(word).is_ok()) {
            return Ok(Kind::View);
        }
        Kind::parse(word).map_err(|error| line_error(line, "event", error))
    }

    fn time_ms(&self, line: u64) -> Result<u64, EventLogError> {
        let Some(at) = self.time_at else { return Ok(line) };
        let time: f64 = self.record[at].parse().map_err(|error| line_error(line, "timestamp", error))?;
        if !(0.0..1e15).contains(&time) {
            let what = format!("{:?} is not a time in seconds or milliseconds", &self.record[at]);
            return Err(EventLogError::Line { line, column: "timestamp", what });
        }
        Ok(if time < SECONDS_BELOW as f64 { (time * 1000.0) as u64 } else { time as u64 })
    }
}

fn number<T: FromStr<Err: fmt::Display>>(
    field: Option<&str>,
    line: u64,
    column: &'static str,
) -> Result<Option<T>, EventLogError> {
    field.map(str::parse).transpose().map_err(|error| line_error(line, column, error))
}

fn line_error(line: u64, column: &'static str, error: impl fmt::Display) -> EventLogError {
    EventLogError::Line { line, column, what: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_log::EventLog;

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

    #[test]
    fn every_column_of_the_contract_is_read() {
        let text = "timestamp,user,item,event,event_id,value,session,query,utc_offset_minutes,device,referrer,price,category\n\
                    1700000000,ann,tent,cart,e-1,2.5,s-1,,60,phone,https://a.example,19.9,tents\n\
                    1700000001.5,ann,,search,,,,small tent,,,,,\n";
        let mut recorded = Recorded::open(text.as_bytes()).unwrap();
        let first = recorded.next().unwrap().unwrap();
        assert_eq!(
            (first.event.kind, first.event.value, first.context.price),
            (Kind::Cart, Some(2.5), Some(19.9))
        );
        assert_eq!(
            (first.event.event_id.as_deref(), first.event.session_id.as_deref()),
            (Some("e-1"), Some("s-1"))
        );
        assert_eq!(
            (first.context.utc_offset_minutes, first.context.device.as_deref()),
            (Some(60), Some("phone"))
        );
        let second = recorded.next().unwrap().unwrap();
        assert_eq!((second.event.kind, second.query.as_deref()), (Kind::Search, Some("small tent")));
        assert_eq!((second.event.time_ms, second.context), (1_700_000_001_500, Context::default()));
        assert!(recorded.next().unwrap().is_none());
        let wrong = text.replace("19.9", "cheap");
        let error = Recorded::open(wrong.as_bytes()).unwrap().next().unwrap_err().to_string();
        assert!(error.starts_with("line 2, price: "), "{error}");
    }
}
