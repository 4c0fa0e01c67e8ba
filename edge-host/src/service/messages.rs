//! What callers say and hear: the words of the JSON, and the limits of each field. gRPC has the same in
//! `proto/`.

use crate::abi::{Inspection, Learnt, ListRequest, Recommended, Why};
use crate::error::EdgeError;
use crate::service::fallback::Recommendations;
use nearfield_engine::limits::COUNT_MAX;
use nearfield_engine::{Event, Kind, Scenario};
pub use nearfield_events::event::USER_BYTES_MAX;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Most events of a call.
pub const EVENTS_MAX: usize = 1000;
/// Most calls of a batch.
pub const BATCH_MAX: usize = 100;
/// Most items that a list may be restricted to, and most that it may leave out.
pub const FILTER_MAX: usize = 10_000;

/// An event.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EventIn {
    /// Plain or GA4 name of the kind: view, click, cart, uncart, purchase, impression, dismiss, search.
    #[schema(example = "view_item")]
    pub kind: String,
    /// The item, up to 128 bytes; none for a search.
    #[serde(default)]
    pub item_id: String,
    /// The same id counts once, so that a call may be repeated.
    #[serde(default)]
    pub event_id: Option<String>,
    /// Milliseconds since 1970-01-01 UTC; now where it is left out.
    #[serde(default)]
    pub time_ms: Option<u64>,
    /// What it was worth.
    #[serde(default)]
    pub value: Option<f32>,
    /// The session that it belongs to.
    #[serde(default)]
    pub session_id: Option<String>,
}

/// What a list is for.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScenarioIn {
    /// What the user's history does not hold.
    #[default]
    Discover,
    /// What the user wants next; the user's own items may come too.
    Continue,
}

/// What a list is to be.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ListIn {
    /// Length of the list, 1 to 1000.
    #[schema(minimum = 1, maximum = 1000, default = 20)]
    pub count: u32,
    /// What the list is for.
    pub scenario: ScenarioIn,
    /// Only these items, up to 10,000; those that the model does not have are passed over.
    pub allow: Option<Vec<String>>,
    /// Not these items, up to 10,000.
    pub deny: Vec<String>,
    /// How much the items differ from one another, 0 to 1.
    #[schema(minimum = 0, maximum = 1)]
    pub diversity: f32,
    /// How much the list explores what the user's taste says little of, 0 to 1.
    #[schema(minimum = 0, maximum = 1)]
    pub explore: f32,
    /// Seed of the exploration: the same one gives the same list.
    pub seed: u64,
    /// Whether each item comes with its reasons.
    pub reasons: bool,
}

impl Default for ListIn {
    fn default() -> Self {
        Self {
            count: 20,
            scenario: ScenarioIn::Discover,
            allow: None,
            deny: Vec::new(),
            diversity: 0.0,
            explore: 0.0,
            seed: 0,
            reasons: false,
        }
    }
}

impl ListIn {
    /// Returns the request of the guest.
    ///
    /// # Errors
    /// [`EdgeError::Field`] names the field and the limit.
    pub fn check(self) -> Result<ListRequest, EdgeError> {
        let field = |field, message: String| Err(EdgeError::Field { field, message });
        check_count(self.count)?;
        for (name, value) in [("diversity", self.diversity), ("explore", self.explore)] {
            if !(0.0..=1.0).contains(&value) {
                return field(name, format!("is {value}, the limit is 0 to 1"));
            }
        }
        let lengths = [("allow", self.allow.as_ref().map_or(0, Vec::len)), ("deny", self.deny.len())];
        for (name, length) in lengths {
            if length > FILTER_MAX {
                return field(name, format!("has {length} items, the limit is {FILTER_MAX}"));
            }
        }
        Ok(ListRequest {
            count: self.count,
            scenario: match self.scenario {
                ScenarioIn::Discover => Scenario::Discover,
                ScenarioIn::Continue => Scenario::Continue,
            },
            allow: self.allow,
            deny: self.deny,
            diversity: self.diversity,
            explore: self.explore,
            seed: self.seed,
            reasons: self.reasons,
        })
    }
}

/// Events of a user.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EventsCall {
    /// The user, 1 to 128 bytes without control characters.
    pub user: String,
    /// 1 to 1000 of them. All are checked before any counts.
    pub events: Vec<EventIn>,
}

/// Asks for a user's list.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RecommendationsCall {
    /// The user.
    pub user: String,
    /// What the list is to be.
    #[serde(default)]
    pub list: ListIn,
}

/// Events of a user, and the list after them.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ObserveCall {
    /// The user.
    pub user: String,
    /// 1 to 1000 of them.
    pub events: Vec<EventIn>,
    /// What the list is to be.
    #[serde(default)]
    pub list: ListIn,
}

/// Asks for items that are like another one.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SimilarCall {
    /// The item.
    pub item_id: String,
    /// Length of the list, 1 to 1000.
    #[serde(default = "default_count")]
    #[schema(minimum = 1, maximum = 1000)]
    pub count: u32,
}

fn default_count() -> u32 {
    ListIn::default().count
}

/// A call about a user.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserCall {
    /// The user.
    pub user: String,
}

/// One call of a batch.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(tag = "verb", rename_all = "snake_case")]
pub enum Call {
    /// Learns events.
    Events(EventsCall),
    /// Makes a list.
    Recommendations(RecommendationsCall),
    /// Learns events and makes a list.
    Observe(ObserveCall),
    /// Makes a list of items like another one.
    Similar(SimilarCall),
    /// Tells what is kept of a user.
    Export(UserCall),
    /// Forgets a user.
    Erase(UserCall),
}

impl Call {
    /// Returns its verb.
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Events(_) => "events",
            Self::Recommendations(_) => "recommendations",
            Self::Observe(_) => "observe",
            Self::Similar(_) => "similar",
            Self::Export(_) => "export",
            Self::Erase(_) => "erase",
        }
    }

    /// Returns the user that it is about.
    pub fn user(&self) -> Option<&str> {
        match self {
            Self::Events(call) => Some(&call.user),
            Self::Recommendations(call) => Some(&call.user),
            Self::Observe(call) => Some(&call.user),
            Self::Similar(_) => None,
            Self::Export(call) | Self::Erase(call) => Some(&call.user),
        }
    }
}

/// What became of events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Counts {
    /// Events that entered the history.
    pub applied: u32,
    /// Events whose id was counted before.
    pub duplicate: u32,
    /// Impressions and searches: context only.
    pub context_only: u32,
    /// Events that the stream has and that are taken in from there.
    #[serde(skip_serializing_if = "is_zero")]
    pub sent: u32,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl Counts {
    /// Returns the counts of events that went to a stream.
    pub(crate) fn of_sent(sent: u32) -> Self {
        Self { sent, ..Self::default() }
    }
}

impl From<Learnt> for Counts {
    fn from(Learnt { applied, duplicate, context_only }: Learnt) -> Self {
        Self { applied, duplicate, context_only, sent: 0 }
    }
}

/// A part of an item's score.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ReasonOut {
    /// taste, last, popular, next or own.
    pub part: String,
    /// Its share of all that speaks for the item, 0 to 1.
    pub share: f32,
    /// The item of the event behind it, where it is one event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item_id: Option<String>,
    /// The kind of that event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

/// An item of a list.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ItemOut {
    /// The item.
    pub item_id: String,
    /// Larger is better; comparable within one list only.
    pub score: f32,
    /// Why it is there, the weightiest first, where that was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<ReasonOut>,
}

/// A list.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ListAnswer {
    /// What it was made from: live, or a lower rung: last, popular, built_in.
    pub rung: &'static str,
    /// Lineage of the model that ranked, 16 hex digits; none for the list of the deployment.
    pub lineage: Option<String>,
    /// Version of the model that ranked.
    pub model_version: Option<u64>,
    /// Whether the call's own events had not been consumed from the stream when the list was made.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
    /// Best first.
    pub items: Vec<ItemOut>,
}

impl From<Recommendations> for ListAnswer {
    fn from(Recommendations { rung, model, items }: Recommendations) -> Self {
        Self {
            rung: rung.as_str(),
            lineage: model.map(|model| model.lineage.to_string()),
            model_version: model.map(|model| model.version.0),
            stale: false,
            items: items.into_iter().map(ItemOut::from).collect(),
        }
    }
}

impl From<Recommended> for ItemOut {
    fn from(Recommended { item_id, score, reasons, row: _ }: Recommended) -> Self {
        let reason = |Why { part, share, because }| {
            let (item_id, kind) = because.unzip();
            ReasonOut { part, share, item_id, kind }
        };
        Self { item_id, score, reasons: reasons.into_iter().map(reason).collect() }
    }
}

/// What became of events, and the list after them.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Observed {
    /// What became of the events.
    pub events: Counts,
    /// The list.
    pub list: ListAnswer,
}

/// An event of a history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct PastOut {
    /// The item, where the model knows it.
    pub item_id: Option<String>,
    /// The item's key, 16 hex digits: as a number it would lose its end in many JSON readers.
    pub key: String,
    /// The plain name of the kind.
    pub kind: String,
    /// When, in milliseconds since 1970-01-01 UTC.
    pub time_ms: u64,
}

/// What is kept of a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Kept {
    /// Lineage of the model in use, 16 hex digits.
    pub lineage: String,
    /// Its version.
    pub model_version: u64,
    /// What the state remembers, newest last.
    pub history: Vec<PastOut>,
    /// Ids of the deltas that wait for central's answer.
    pub outbox: Vec<String>,
    /// Bytes of the stored state.
    pub state_bytes: u32,
}

impl From<Inspection> for Kept {
    fn from(Inspection { model, history, outbox, state_bytes }: Inspection) -> Self {
        let past = history.into_iter().map(|seen| PastOut {
            item_id: seen.item_id,
            key: format!("{:016x}", seen.key),
            kind: seen.kind,
            time_ms: seen.time_ms,
        });
        Self {
            lineage: model.lineage.to_string(),
            model_version: model.version.0,
            history: past.collect(),
            outbox: outbox.iter().map(ToString::to_string).collect(),
            state_bytes,
        }
    }
}

/// Whether anything was kept of a user who is forgotten now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Erased {
    /// Whether anything was.
    pub erased: bool,
}

/// The answer to a call.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Answer {
    /// What became of events.
    Events(Counts),
    /// A list.
    List(ListAnswer),
    /// Both.
    Observed(Observed),
    /// What is kept of a user.
    Kept(Kept),
    /// Whether anything was kept.
    Erased(Erased),
}

impl Answer {
    /// Returns the rung of the list in it, if there is one.
    pub fn rung(&self) -> Option<&'static str> {
        match self {
            Self::List(list) | Self::Observed(Observed { list, .. }) => Some(list.rung),
            Self::Events(_) | Self::Kept(_) | Self::Erased(_) => None,
        }
    }
}

/// Checks a user's name.
///
/// # Errors
/// [`EdgeError::UserName`].
pub fn check_user(user: &str) -> Result<(), EdgeError> {
    if user.is_empty() || user.len() > USER_BYTES_MAX || user.chars().any(char::is_control) {
        return Err(EdgeError::UserName { bytes: user.len(), limit: USER_BYTES_MAX });
    }
    Ok(())
}

/// Checks the length of a list.
///
/// # Errors
/// [`EdgeError::Field`].
pub fn check_count(count: u32) -> Result<(), EdgeError> {
    if count == 0 || count > COUNT_MAX {
        let message = format!("is {count}, the limit is 1 to {COUNT_MAX}");
        return Err(EdgeError::Field { field: "count", message });
    }
    Ok(())
}

/// Reads events, all of which are checked before any counts.
///
/// # Errors
/// [`EdgeError::EventCount`] or [`EdgeError::Event`].
pub fn events(events: Vec<EventIn>, now_ms: u64) -> Result<Vec<Event>, EdgeError> {
    if events.is_empty() || events.len() > EVENTS_MAX {
        return Err(EdgeError::EventCount { found: events.len(), limit: EVENTS_MAX });
    }
    let read = |(index, event): (usize, EventIn)| {
        let refused = |error| EdgeError::Event { index, error };
        let event = Event {
            kind: Kind::parse(&event.kind).map_err(refused)?,
            item_id: event.item_id,
            event_id: event.event_id,
            time_ms: event.time_ms.unwrap_or(now_ms),
            value: event.value,
            session_id: event.session_id,
        };
        event.check(now_ms).map_err(refused)?;
        Ok(event)
    };
    events.into_iter().enumerate().map(read).collect()
}
