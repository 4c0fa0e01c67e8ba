//! The event log as a file: `user,item,timestamp,event`, plain or gzipped.

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// What a shopper did; the demo replays only these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// The product's own page.
    View,
    /// A choice from a list.
    Click,
    /// Into the cart.
    Cart,
    /// Bought.
    Purchase,
}

impl EventKind {
    /// Every kind, at the place of its number in `shoppers.json`.
    pub const ALL: [EventKind; 4] = [EventKind::View, EventKind::Click, EventKind::Cart, EventKind::Purchase];

    /// The name in files.
    pub fn as_str(self) -> &'static str {
        match self {
            EventKind::View => "view",
            EventKind::Click => "click",
            EventKind::Cart => "cart",
            EventKind::Purchase => "purchase",
        }
    }

    /// The kind that `name` means, plain or by GA4; a view for any other use of the fourth column.
    fn of_column(name: &str) -> Self {
        match name {
            "click" | "select_item" => EventKind::Click,
            "cart" | "add_to_cart" => EventKind::Cart,
            "purchase" => EventKind::Purchase,
            _ => EventKind::View,
        }
    }
}

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Who, as the file calls them.
    pub user: String,
    /// Item id.
    pub item: String,
    /// Milliseconds since 1970.
    pub time_ms: u64,
    /// What they did.
    pub kind: EventKind,
}

/// Why an event file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EventFileError {
    /// The file cannot be opened, read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A column is not in the header.
    #[error("{path}: line 1: column \"{column}\" is missing; the header must name user, item and timestamp")]
    MissingColumn {
        /// The file.
        path: PathBuf,
        /// The column.
        column: &'static str,
    },
    /// A line has another number of fields than the header, or is not text.
    #[error("{path}: line {line}: {reason}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// What is wrong.
        reason: String,
    },
    /// A field cannot be read.
    #[error("{path}: line {line}: column \"{column}\": {reason}")]
    Field {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// The column.
        column: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// There is no event in the file.
    #[error("{path}: holds a header but no event")]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// Writes `events` to `path`, gzipped; the same events give the same bytes.
///
/// # Errors
/// If the file cannot be written.
pub fn write(path: &Path, events: &[Event]) -> Result<(), EventFileError> {
    let failed = |source| EventFileError::File { path: path.to_owned(), source };
    let file = BufWriter::new(File::create(path).map_err(failed)?);
    // The gzip header carries no time and no name.
    let mut out = GzEncoder::new(file, Compression::default());
    out.write_all(b"user,item,timestamp,event\n").map_err(failed)?;
    for event in events {
        writeln!(out, "{},{},{},{}", event.user, event.item, event.time_ms, event.kind.as_str())
            .map_err(failed)?;
    }
    out.finish().map_err(failed)?.flush().map_err(failed)
}

/// The events of a `.csv` or `.csv.gz` file, in file order.
///
/// Timestamps are seconds or milliseconds, told apart by magnitude: below 10¹¹ they are seconds.
///
/// # Errors
/// A missing column or a broken line, naming both; an unreadable or empty file.
pub fn read(path: &Path) -> Result<Vec<Event>, EventFileError> {
    let file = File::open(path).map_err(|source| EventFileError::File { path: path.to_owned(), source })?;
    let reader: Box<dyn Read> = if path.extension().is_some_and(|ending| ending == "gz") {
        Box::new(MultiGzDecoder::new(BufReader::new(file)))
    } else {
        Box::new(file)
    };
    let mut lines = csv::ReaderBuilder::new().from_reader(BufReader::new(reader));
    let broken = |error: csv::Error, line: u64| {
        let line = error.position().map_or(line, csv::Position::line);
        let reason = match error.kind() {
            csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                format!("has {len} fields, but the header has {expected_len}")
            }
            csv::ErrorKind::Utf8 { .. } => "is not UTF-8".to_owned(),
            csv::ErrorKind::Io(source) => format!("cannot be read: {source}"),
            _ => error.to_string(),
        };
        EventFileError::Line { path: path.to_owned(), line, reason }
    };
    let header = lines.headers().map_err(|error| broken(error, 1))?.clone();
    let place = |column: &'static str| header.iter().position(|name| name.trim() == column);
    let needed =
        |column| place(column).ok_or(EventFileError::MissingColumn { path: path.to_owned(), column });
    let (user, item, timestamp) = (needed("user")?, needed("item")?, needed("timestamp")?);
    let kind = place("event");

    let mut events = Vec::new();
    let mut line_before = 1;
    for record in lines.records() {
        let record = record.map_err(|error| broken(error, line_before + 1))?;
        let line = record.position().map_or(line_before + 1, csv::Position::line);
        line_before = line;
        let field = |column: &'static str, reason: String| EventFileError::Field {
            path: path.to_owned(),
            line,
            column,
            reason,
        };
        for (column, place) in [("user", user), ("item", item)] {
            if record[place].is_empty() {
                return Err(field(column, "is empty".to_owned()));
            }
        }
        let stamp: f64 = record[timestamp]
            .trim()
            .parse()
            .map_err(|_| field("timestamp", format!("{:?} is not a number", &record[timestamp])))?;
        if !(0.0..1e15).contains(&stamp) {
            return Err(field("timestamp", format!("{stamp} is not a time in seconds or milliseconds")));
        }
        let time_ms = if stamp < 1e11 { stamp * 1000.0 } else { stamp } as u64;
        events.push(Event {
            user: record[user].to_owned(),
            item: record[item].to_owned(),
            time_ms,
            kind: kind.map_or(EventKind::View, |place| EventKind::of_column(&record[place])),
        });
    }
    if events.is_empty() {
        return Err(EventFileError::Empty { path: path.to_owned() });
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Vec<Event>, String> {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("log.csv");
        std::fs::write(&path, text).expect("the file is written");
        read(&path).map_err(|error| error.to_string().replace(&format!("{}: ", path.display()), ""))
    }

    #[test]
    fn what_is_written_is_read_again() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("log.csv.gz");
        let events: Vec<Event> = EventKind::ALL
            .iter()
            .enumerate()
            .map(|(n, kind)| Event {
                user: format!("u{n}"),
                item: "tent-001".to_owned(),
                time_ms: 1_772_409_600_000 + n as u64,
                kind: *kind,
            })
            .collect();
        write(&path, &events).expect("the file is written");
        assert_eq!(read(&path).expect("the file is read"), events);
    }

    #[test]
    fn seconds_and_milliseconds_are_told_apart() {
        let events =
            read_text("item,user,timestamp\na,1,1396314141\nb,1,1396314141500\n").expect("both read");
        assert_eq!([events[0].time_ms, events[1].time_ms], [1_396_314_141_000, 1_396_314_141_500]);
        assert_eq!(events[1].item, "b");
    }

    #[test]
    fn a_broken_file_is_refused_by_line_and_column() {
        for (text, message) in [
            (
                "user,timestamp\n1,2\n",
                "line 1: column \"item\" is missing; the header must name user, item and timestamp",
            ),
            ("user,item,timestamp\n1,2,3\n1,2\n", "line 3: has 2 fields, but the header has 3"),
            ("user,item,timestamp\n1,2,soon\n", "line 2: column \"timestamp\": \"soon\" is not a number"),
            (
                "user,item,timestamp\n1,2,NaN\n",
                "line 2: column \"timestamp\": NaN is not a time in seconds or milliseconds",
            ),
            ("user,item,timestamp\n1,2,3\n1,,3\n", "line 3: column \"item\": is empty"),
            ("user,item,timestamp\n", "holds a header but no event"),
        ] {
            assert_eq!(read_text(text).expect_err(text), message);
        }
    }
}
