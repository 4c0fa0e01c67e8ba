//! What a person did: one definition for page, edge, central and files.

use crate::error::EventError;
use crate::limits::{EVENT_FUTURE_MS_MAX, EVENT_ID_BYTES_MAX, ITEM_ID_BYTES_MAX};
use alloc::string::String;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What happened to the item. Each kind answers to its plain name and to its GA4 name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// The item's page was opened (`view_item`).
    View = 0,
    /// The item was chosen from a list (`select_item`).
    Click = 1,
    /// Put into the cart (`add_to_cart`).
    Cart = 2,
    /// Taken out of the cart again (`remove_from_cart`).
    Uncart = 3,
    /// Bought (`purchase`).
    Purchase = 4,
    /// Shown in a list (`view_item_list`); stays out of the history.
    Impression = 5,
    /// Dismissed by the person: not wanted.
    Dismiss = 6,
    /// A query without an item; context only.
    Search = 7,
}

impl Kind {
    /// All kinds, at the index that files and wires use.
    pub const ALL: [Kind; 8] = [
        Kind::View,
        Kind::Click,
        Kind::Cart,
        Kind::Uncart,
        Kind::Purchase,
        Kind::Impression,
        Kind::Dismiss,
        Kind::Search,
    ];

    /// Returns the kind of a plain or GA4 name.
    ///
    /// # Errors
    /// [`EventError::UnknownKind`] for any other name.
    ///
    /// ```
    /// use nearfield_engine::Kind;
    /// assert_eq!(Kind::parse("add_to_cart"), Ok(Kind::Cart));
    /// assert_eq!(Kind::parse("poke").unwrap_err().to_string(), "kind \"poke\" is unknown");
    /// ```
    pub fn parse(name: &str) -> Result<Self, EventError> {
        Ok(match name {
            "view" | "view_item" => Self::View,
            "click" | "select_item" => Self::Click,
            "cart" | "add_to_cart" => Self::Cart,
            "uncart" | "remove_from_cart" => Self::Uncart,
            "purchase" => Self::Purchase,
            "impression" | "view_item_list" => Self::Impression,
            "dismiss" => Self::Dismiss,
            "search" => Self::Search,
            other => return Err(EventError::UnknownKind { name: other.chars().take(64).collect() }),
        })
    }

    /// Returns the kind at an index of [`Kind::ALL`].
    pub fn from_index(index: u8) -> Option<Self> {
        Self::ALL.get(index as usize).copied()
    }

    /// Returns the plain name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Click => "click",
            Self::Cart => "cart",
            Self::Uncart => "uncart",
            Self::Purchase => "purchase",
            Self::Impression => "impression",
            Self::Dismiss => "dismiss",
            Self::Search => "search",
        }
    }

    /// Returns whether the kind enters the history (impressions and searches do not).
    pub fn is_history(self) -> bool {
        !matches!(self, Self::Impression | Self::Search)
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::parse(&name).map_err(serde::de::Error::custom)
    }
}

/// One event of one person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// Optional name; the same id counts once.
    #[serde(default)]
    pub event_id: Option<String>,
    /// The operator's id of the item, 1 to 128 bytes (empty only for a search).
    #[serde(default)]
    pub item_id: String,
    /// What happened.
    pub kind: Kind,
    /// When, in milliseconds since 1970-01-01 UTC.
    pub time_ms: u64,
    /// Optional value (a price, a rating); must be finite.
    #[serde(default)]
    pub value: Option<f32>,
    /// Optional session; without it a gap of 30 minutes ends one.
    #[serde(default)]
    pub session_id: Option<String>,
}

impl Event {
    /// Returns an event with no optional field set.
    pub fn new(kind: Kind, item_id: impl Into<String>, time_ms: u64) -> Self {
        Self { event_id: None, item_id: item_id.into(), kind, time_ms, value: None, session_id: None }
    }

    /// Checks every field against its limit.
    ///
    /// # Errors
    /// The first [`EventError`] met: id, session, value, time.
    pub fn check(&self, now_ms: u64) -> Result<(), EventError> {
        if self.item_id.is_empty() && self.kind != Kind::Search {
            return Err(EventError::EmptyItemId);
        }
        let texts = [
            ("item_id", Some(&self.item_id), ITEM_ID_BYTES_MAX),
            ("event_id", self.event_id.as_ref(), EVENT_ID_BYTES_MAX),
            ("session_id", self.session_id.as_ref(), EVENT_ID_BYTES_MAX),
        ];
        for (field, text, limit) in texts {
            let bytes = text.map_or(0, String::len);
            if bytes > limit {
                return Err(EventError::TooLong { field, bytes, limit });
            }
        }
        if self.value.is_some_and(|value| !value.is_finite()) {
            return Err(EventError::NonFiniteValue);
        }
        let limit_ms = now_ms.saturating_add(EVENT_FUTURE_MS_MAX);
        if self.time_ms > limit_ms {
            return Err(EventError::InTheFuture { time_ms: self.time_ms, limit_ms });
        }
        Ok(())
    }
}

/// What was known around an event. Ranking does not look at it; [`crate::features`] does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Context {
    /// The person's clock less UTC, -1080 to 1080 minutes.
    pub utc_offset_minutes: Option<i32>,
    /// desktop, phone, tablet, tv or another word.
    pub device: Option<String>,
    /// The address or host that the person came from.
    pub referrer: Option<String>,
    /// The item's price in the site's currency, 0 to 1e9.
    pub price: Option<f64>,
    /// The item's category.
    pub category: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_parses_its_own_name() {
        for kind in Kind::ALL {
            assert_eq!(Kind::parse(kind.as_str()), Ok(kind));
            assert_eq!(Kind::from_index(kind as u8), Some(kind));
        }
        assert_eq!(Kind::from_index(8), None);
    }

    #[test]
    fn bad_fields_are_named() {
        let now = 1_700_000_000_000;
        let good = Event::new(Kind::Click, "a", now);
        assert_eq!(good.check(now), Ok(()));
        let cases = [
            (Event { item_id: String::new(), ..good.clone() }, "item_id is empty"),
            (Event { item_id: "x".repeat(129), ..good.clone() }, "item_id has 129 bytes, the limit is 128"),
            (Event { value: Some(f32::NAN), ..good.clone() }, "value is not a finite number"),
            (
                Event { time_ms: now + EVENT_FUTURE_MS_MAX + 1, ..good.clone() },
                "time_ms 1700086400001 lies more than a day ahead, the limit is 1700086400000",
            ),
        ];
        for (event, text) in cases {
            assert_eq!(event.check(now).unwrap_err().to_string(), text);
        }
    }
}
