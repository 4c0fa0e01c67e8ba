//! What a ranker is told beside the factors: the circumstances of an event, as they were when it happened.
//!
//! [`Profile`] is what must be remembered of a person for that; it takes one event after another and answers the
//! event's [`Features`], which follow from the events before it alone. So a ranker that is trained on recorded
//! features sees in service what it saw in training. [`Baseline`] keeps how the features were distributed when a
//! ranker was trained, and [`Monitor`] tells when they no longer are.
//!
//! These are features of a moment. What an item's score is made of is in [`crate::rank`].

mod affinity;
mod baseline;
mod profile;
mod words;

pub use baseline::{
    Baseline, Bins, Drift, MISSING_MORE_MAX, Monitor, Numbers, OutOfRange, PSI_MAX,
    population_stability_index,
};
pub use profile::{Profile, RECENT_EVENTS, RECENT_ITEMS};
pub use words::{Device, Referrer};

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// The features of one event. What is not known is `None`, never a number that stands for it.
///
/// An event without an item (a search) and an impression have features, too; neither enters the history that the
/// features of later events follow from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Features {
    /// Whether a session begins with this event.
    pub new_session: bool,
    /// Events of the session before this one.
    pub session_events: u32,
    /// Seconds since the session began.
    pub session_seconds: u32,
    /// Hour of the day by the person's clock, 0 to 23.
    pub hour: Option<u8>,
    /// Day of the week by the person's clock, 0 (Monday) to 6.
    pub weekday: Option<u8>,
    /// Seconds since the event before this one, of any kind.
    pub seconds_since_event: Option<u32>,
    /// Seconds since the last event with this item, where that is among the last [`RECENT_EVENTS`] of the history.
    pub seconds_since_item: Option<u32>,
    /// Seconds since the last purchase.
    pub seconds_since_purchase: Option<u32>,
    /// Events of the history before this one.
    pub history_events: u32,
    /// Views and clicks among the last [`RECENT_EVENTS`] of the history.
    pub recent_views: u8,
    /// Carts among them.
    pub recent_carts: u8,
    /// Purchases among them.
    pub recent_purchases: u8,
    /// Ids of the items of the history's last events, newest first, each once, at most [`RECENT_ITEMS`].
    pub recent_items: Vec<String>,
    /// The item's price, 0 to 1e9.
    pub price: Option<f64>,
    /// How near the price is to those of the items that the person has chosen, 0 (far) to 1 (the same).
    pub price_affinity: Option<f64>,
    /// Share of the item's category in what the person has chosen, 0 to 1.
    pub category_affinity: Option<f64>,
    /// What the event came from.
    pub device: Device,
    /// Where the person came from when the session began.
    pub referrer: Referrer,
}

/// Number of features that are numbers.
pub const NUMBERS: usize = 15;

/// Names of the features that are numbers, in the order of [`Features::numbers`].
pub const NUMBER_NAMES: [&str; NUMBERS] = [
    "new_session",
    "session_events",
    "session_seconds",
    "hour",
    "weekday",
    "seconds_since_event",
    "seconds_since_item",
    "seconds_since_purchase",
    "history_events",
    "recent_views",
    "recent_carts",
    "recent_purchases",
    "price",
    "price_affinity",
    "category_affinity",
];

impl Features {
    /// Returns the features that are numbers, in the order of [`NUMBER_NAMES`].
    pub fn numbers(&self) -> [Option<f64>; NUMBERS] {
        let whole = |number: Option<u32>| number.map(f64::from);
        [
            Some(f64::from(u8::from(self.new_session))),
            whole(Some(self.session_events)),
            whole(Some(self.session_seconds)),
            self.hour.map(f64::from),
            self.weekday.map(f64::from),
            whole(self.seconds_since_event),
            whole(self.seconds_since_item),
            whole(self.seconds_since_purchase),
            whole(Some(self.history_events)),
            Some(f64::from(self.recent_views)),
            Some(f64::from(self.recent_carts)),
            Some(f64::from(self.recent_purchases)),
            self.price,
            self.price_affinity,
            self.category_affinity,
        ]
    }
}
