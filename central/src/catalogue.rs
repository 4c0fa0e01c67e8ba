//! The operator's catalogue from files and requests: only they create rows.
//!
//! CSV has a column `item_id`, and any others, which are ignored. JSON is
//! `{"items": [{"id": "tent-2"}], "withdraw": ["tent-1"]}`, where an item may say `item_id` instead
//! of `id`, or be the id itself.

use crate::log::entry::Change;
use nearfield_engine::limits::ITEM_ID_BYTES_MAX;
use serde::Deserialize;
use std::fmt;

/// Why a catalogue was refused. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CatalogueError {
    /// The CSV has no such column.
    MissingColumn {
        /// The columns that it has.
        found: Vec<String>,
    },
    /// A line of the CSV is broken.
    Line {
        /// Its number, the header being 1.
        line: u64,
        /// What is wrong.
        what: String,
    },
    /// The JSON does not have the expected form.
    Json {
        /// Where and why.
        what: String,
    },
    /// An entry of the JSON is out of its limits.
    Item {
        /// Its index in the list, from 0.
        index: usize,
        /// What is wrong.
        what: String,
    },
    /// It names no item.
    Empty,
}

impl fmt::Display for CatalogueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingColumn { found } => {
                write!(f, "column item_id is missing; the first line has {}", found.join(", "))
            }
            Self::Line { line, what } => write!(f, "line {line}: {what}"),
            Self::Json { what } => write!(f, "catalogue is not the expected JSON: {what}"),
            Self::Item { index, what } => write!(f, "items[{index}]: {what}"),
            Self::Empty => write!(f, "catalogue names no item"),
        }
    }
}

impl std::error::Error for CatalogueError {}

/// Form of a catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Comma-separated, with a header line.
    Csv,
    /// As described above.
    Json,
}

/// Returns the changes that a catalogue asks for, in its order.
///
/// ```
/// use nearfield_central::catalogue::{Form, read};
/// use nearfield_central::log::entry::Change;
/// let changes = read(Form::Csv, b"item_id,name\ntent-2,Tent\n").unwrap();
/// assert_eq!(changes, [Change::Add("tent-2".into())]);
/// ```
///
/// # Errors
/// [`CatalogueError`] names the line, column or entry.
pub fn read(form: Form, bytes: &[u8]) -> Result<Vec<Change>, CatalogueError> {
    let changes = match form {
        Form::Csv => read_csv(bytes)?,
        Form::Json => read_json(bytes)?,
    };
    if changes.is_empty() { Err(CatalogueError::Empty) } else { Ok(changes) }
}

fn read_csv(bytes: &[u8]) -> Result<Vec<Change>, CatalogueError> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(bytes);
    let header = reader.headers().map_err(|error| broken(1, &error))?.clone();
    // A spreadsheet may have put a byte order mark before the first name.
    let is_id = |name: &str| name.trim_start_matches('\u{feff}') == "item_id";
    let column = header
        .iter()
        .position(is_id)
        .ok_or_else(|| CatalogueError::MissingColumn { found: header.iter().map(str::to_owned).collect() })?;
    let mut changes = Vec::new();
    for record in reader.into_records() {
        let record = record.map_err(|error| broken(0, &error))?;
        let line = record.position().map_or(0, csv::Position::line);
        let id = record.get(column).unwrap_or_default();
        check(id).map_err(|what| CatalogueError::Line { line, what })?;
        changes.push(Change::Add(id.to_owned()));
    }
    Ok(changes)
}

fn broken(line: u64, error: &csv::Error) -> CatalogueError {
    let line = error.position().map_or(line, csv::Position::line);
    let what = match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{len} columns, the first line has {expected_len}")
        }
        csv::ErrorKind::Utf8 { .. } => "not UTF-8".to_owned(),
        _ => error.to_string(),
    };
    CatalogueError::Line { line, what }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum JsonItem {
    Id(String),
    Object {
        #[serde(alias = "item_id")]
        id: String,
    },
}

#[derive(Deserialize)]
struct JsonCatalogue {
    #[serde(default)]
    items: Vec<serde_json::Value>,
    #[serde(default)]
    withdraw: Vec<String>,
}

fn read_json(bytes: &[u8]) -> Result<Vec<Change>, CatalogueError> {
    let catalogue: JsonCatalogue =
        serde_json::from_slice(bytes).map_err(|error| CatalogueError::Json { what: error.to_string() })?;
    let mut changes = Vec::with_capacity(catalogue.items.len() + catalogue.withdraw.len());
    for (index, item) in catalogue.items.into_iter().enumerate() {
        let id = match serde_json::from_value(item) {
            Ok(JsonItem::Id(id) | JsonItem::Object { id }) => id,
            Err(_) => return Err(CatalogueError::Item { index, what: "no text in field id".into() }),
        };
        check(&id).map_err(|what| CatalogueError::Item { index, what })?;
        changes.push(Change::Add(id));
    }
    for (index, id) in catalogue.withdraw.into_iter().enumerate() {
        check(&id).map_err(|what| CatalogueError::Item { index, what: format!("in withdraw: {what}") })?;
        changes.push(Change::Withdraw(id));
    }
    Ok(changes)
}

fn check(id: &str) -> Result<(), String> {
    if id.is_empty() {
        return Err("item_id is empty".to_owned());
    }
    if id.len() > ITEM_ID_BYTES_MAX {
        return Err(format!("item_id has {} bytes, the limit is {ITEM_ID_BYTES_MAX}", id.len()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(form: Form, text: &str) -> String {
        read(form, text.as_bytes()).expect_err("a broken catalogue was taken").to_string()
    }

    #[test]
    fn broken_csv_names_line_and_column() {
        assert_eq!(
            error(Form::Csv, "sku,name\n1,a\n"),
            "column item_id is missing; the first line has sku, name"
        );
        assert_eq!(error(Form::Csv, "item_id,name\na,b\nc\n"), "line 3: 1 columns, the first line has 2");
        assert_eq!(error(Form::Csv, "item_id\na\n\"\"\n"), "line 3: item_id is empty");
        let long = format!("item_id\n{}\n", "x".repeat(129));
        assert_eq!(error(Form::Csv, &long), "line 2: item_id has 129 bytes, the limit is 128");
        assert_eq!(error(Form::Csv, "item_id\n"), "catalogue names no item");
        let bytes = b"item_id\na\n\xff\n";
        assert_eq!(read(Form::Csv, bytes).unwrap_err().to_string(), "line 3: not UTF-8");
    }

    #[test]
    fn broken_json_names_the_entry() {
        assert!(error(Form::Json, "{").starts_with("catalogue is not the expected JSON: EOF"));
        assert_eq!(
            error(Form::Json, r#"{"items":[{"id":"a"},{"name":"b"}]}"#),
            "items[1]: no text in field id"
        );
        assert_eq!(error(Form::Json, r#"{"items":[""]}"#), "items[0]: item_id is empty");
        assert_eq!(error(Form::Json, "{}"), "catalogue names no item");
    }

    #[test]
    fn both_forms_say_the_same() {
        let csv = read(Form::Csv, "\u{feff}item_id,price\na,1\nb,2\n".as_bytes()).unwrap();
        let json =
            read(Form::Json, br#"{"named":true,"items":[{"id":"a","price":1},{"item_id":"b"}]}"#).unwrap();
        assert_eq!(csv, json);
        let withdrawn = read(Form::Json, br#"{"withdraw":["a"]}"#).unwrap();
        assert_eq!(withdrawn, [Change::Withdraw("a".into())]);
    }
}
