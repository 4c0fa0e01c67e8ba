//! The files of a demo: `catalogue.json`, `items.csv`, `shoppers.json`, and for a made shop `events.csv.gz`.

use crate::events::{self, Event, EventFileError};
use crate::products::{Art, CATEGORIES};
use crate::sessions::{SHOPPERS_BYTES_MAX, sessions, split};
use crate::shoppers::{Plan, open};
use serde::Serialize;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Why the files of a demo cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The event file cannot be used.
    #[error(transparent)]
    Events(#[from] EventFileError),
    /// An output cannot be written.
    #[error("{path}: {source}")]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The split leaves nothing on one side.
    #[error("--until-fraction {0} leaves no event on one side of the split; it must be from 0.1 to 0.9")]
    Fraction(f64),
}

/// What `catalogue.json` holds.
#[derive(Debug, Serialize)]
struct Catalogue<'a> {
    /// Whether items have names, prices and pictures of their own.
    named: bool,
    /// Time of the first event that was not trained on, in milliseconds since 1970.
    split_ms: u64,
    items: Vec<Item<'a>>,
}

#[derive(Debug, Serialize)]
struct Item<'a> {
    id: &'a str,
    #[serde(flatten)]
    described: Option<Described<'a>>,
    /// True for an item with no event before the split.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    new: bool,
}

#[derive(Debug, Serialize)]
struct Described<'a> {
    name: &'a str,
    category: &'static str,
    department: &'static str,
    price: u32,
    art: &'a Art,
}

/// What was made.
#[derive(Debug, PartialEq, Eq)]
pub struct Made {
    /// Items in the catalogue.
    pub items: usize,
    /// Of them, those without an event before the split.
    pub arrivals: usize,
    /// Events in the whole log.
    pub events: usize,
    /// Visits to replay.
    pub sessions: usize,
    /// Visits that did not fit.
    pub left_out: usize,
}

/// Makes a shop by `plan` and writes all its files to `out`.
///
/// # Errors
/// If the fraction is out of bounds or a file cannot be written.
pub fn generate(plan: &Plan, out: &Path) -> Result<Made, DataError> {
    check_fraction(plan.until_fraction)?;
    let shop = open(plan);
    make_folder(out)?;
    events::write(&out.join("events.csv.gz"), &shop.events)?;
    let items = shop
        .products
        .iter()
        .map(|product| Item {
            id: &product.id,
            described: Some(Described {
                name: &product.name,
                category: CATEGORIES[product.category].name,
                department: CATEGORIES[product.category].department,
                price: product.price,
                art: &product.art,
            }),
            new: false,
        })
        .collect();
    write_files(items, true, &shop.events, plan.until_fraction, out)
}

/// Writes the files of a demo on the real events of `file` to `out`: ids only, for the log holds no names.
///
/// # Errors
/// If the event file cannot be used, the fraction is out of bounds, or a file cannot be written.
pub fn describe(file: &Path, until_fraction: f64, out: &Path) -> Result<Made, DataError> {
    check_fraction(until_fraction)?;
    let events = events::read(file)?;
    make_folder(out)?;
    let mut known = HashMap::new();
    let mut items = Vec::new();
    for event in &events {
        known.entry(event.item.as_str()).or_insert_with(|| {
            items.push(Item { id: &event.item, described: None, new: false });
        });
    }
    write_files(items, false, &events, until_fraction, out)
}

fn write_files(
    mut items: Vec<Item<'_>>,
    named: bool,
    events: &[Event],
    until_fraction: f64,
    out: &Path,
) -> Result<Made, DataError> {
    let (before, after) = events.split_at(split(events.len(), until_fraction));
    let Some(first_after) = after.first().filter(|_| !before.is_empty()) else {
        return Err(DataError::Fraction(until_fraction));
    };
    let trained: std::collections::HashSet<&str> = before.iter().map(|event| event.item.as_str()).collect();
    for item in &mut items {
        item.new = !trained.contains(item.id);
    }
    let index: HashMap<&str, u32> =
        items.iter().enumerate().map(|(row, item)| (item.id, row as u32)).collect();
    let shoppers = sessions(after, &index, SHOPPERS_BYTES_MAX);
    let made = Made {
        items: items.len(),
        arrivals: items.iter().filter(|item| item.new).count(),
        events: events.len(),
        sessions: shoppers.sessions.len(),
        left_out: shoppers.left_out,
    };

    let mut rows = csv::Writer::from_writer(Vec::new());
    let in_memory = "a buffer in memory takes every record";
    rows.write_record(["item_id"]).expect(in_memory);
    for item in &items {
        rows.write_record([item.id]).expect(in_memory);
    }
    write_bytes(&out.join("items.csv"), &rows.into_inner().expect(in_memory))?;
    let json = |value: Result<Vec<u8>, serde_json::Error>| value.expect("names and numbers have a JSON form");
    let catalogue = Catalogue { named, split_ms: first_after.time_ms, items };
    write_bytes(&out.join("catalogue.json"), &json(serde_json::to_vec(&catalogue)))?;
    write_bytes(&out.join("shoppers.json"), &json(serde_json::to_vec(&shoppers)))?;
    Ok(made)
}

fn check_fraction(until_fraction: f64) -> Result<(), DataError> {
    if (0.1..=0.9).contains(&until_fraction) { Ok(()) } else { Err(DataError::Fraction(until_fraction)) }
}

fn make_folder(out: &Path) -> Result<(), DataError> {
    std::fs::create_dir_all(out).map_err(|source| DataError::Write { path: out.to_owned(), source })
}

fn write_bytes(path: &Path, bytes: &[u8]) -> Result<(), DataError> {
    std::fs::write(path, bytes).map_err(|source| DataError::Write { path: path.to_owned(), source })
}
