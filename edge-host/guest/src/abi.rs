//! The messages between host and guest, as postcard. One file, included by both, so that they
//! cannot disagree unnoticed: whoever changes a message raises [`ABI_VERSION`].

use nearfield_engine::features::Features;
use nearfield_engine::{Context, DeltaId, Event, Lineage, ModelVersion, Outcome, Row, Scenario};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Version of exports and messages. The host refuses a guest that answers another number.
pub const ABI_VERSION: u32 = 4;

/// The outcome of a call: the first byte of every answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// Done; the message follows.
    Ok = 0,
    /// A message did not decode.
    BadMessage = 1,
    /// The call needs a model and none is loaded.
    NoModel = 2,
    /// The model pack was refused; the model held before stays.
    Pack = 3,
    /// The patch was refused; the model held before stays.
    Patch = 4,
    /// The stored state was refused.
    State = 5,
    /// An event was refused; nothing of the step counts.
    Event = 6,
    /// A sync body could not be encoded, or a reply not decoded; nothing of the step counts.
    Wire = 7,
    /// The model has no item of this id.
    UnknownItem = 8,
}

impl Status {
    /// All statuses, at the index of their number.
    pub const ALL: [Status; 9] = [
        Status::Ok,
        Status::BadMessage,
        Status::NoModel,
        Status::Pack,
        Status::Patch,
        Status::State,
        Status::Event,
        Status::Wire,
        Status::UnknownItem,
    ];

    /// Returns a short stable name, for metrics and for callers' code.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::BadMessage => "bad_message",
            Self::NoModel => "no_model",
            Self::Pack => "pack",
            Self::Patch => "patch",
            Self::State => "state",
            Self::Event => "event",
            Self::Wire => "wire",
            Self::UnknownItem => "unknown_item",
        }
    }
}

/// What follows a status other than [`Status::Ok`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The engine's short name of the reason.
    pub reason: String,
    /// The error's text.
    pub message: String,
}

/// Which model is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// Its lineage.
    pub lineage: Lineage,
    /// Its version.
    pub version: ModelVersion,
    /// Its rows, withdrawn ones included.
    pub rows: u32,
}

/// Names a stored state, so that the guest may keep what it has derived from it. Two states of the same name are
/// the same state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateName {
    /// A hash of the user's name.
    pub user: u64,
    /// The version of the user's record, which no other write has; zeros where nothing is stored.
    pub version: [u8; 16],
}

/// Input of `nf_step`: a user's state and all that is to be done with it. Done in this order: settle, learn, send,
/// list, inspect.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Step<'a> {
    /// The host's clock, in milliseconds since 1970-01-01 UTC.
    pub now_ms: u64,
    /// The state's name.
    pub name: StateName,
    /// The version that the state will have if it changes.
    pub next_version: [u8; 16],
    /// The state, empty for a user of whom nothing is kept.
    #[serde(borrow)]
    pub state: &'a [u8],
    /// The list that was shown last, if it was and no choice has been counted by it.
    pub shown: Option<Shown>,
    /// Central's reply to a sync body: what it settles leaves the outbox.
    pub settle: Option<&'a [u8]>,
    /// Events to learn from, in order.
    pub events: Cow<'a, [Event]>,
    /// What was known around each event, where their features are asked for; empty where they are not.
    pub contexts: Cow<'a, [Context]>,
    /// What the features of earlier events left, empty for nothing.
    pub profile: &'a [u8],
    /// Asks for a sync body.
    pub send: Option<Send>,
    /// Asks for a list.
    pub list: Option<ListRequest>,
    /// Asks for what is kept of the user.
    pub inspect: bool,
    /// Asks for the user's factor.
    pub factor: bool,
}

/// The head of a list that was shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// Lineage of the model that made it.
    pub lineage: Lineage,
    /// Version of the model that made it.
    pub version: ModelVersion,
    /// Its first rows, best first.
    pub rows: Vec<Row>,
}

/// Asks for a sync body: what is due moves into the outbox if that is empty, and the outbox is encoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Send {
    /// 128 random bits for a new delta: the guest draws no randomness.
    pub id: DeltaId,
    /// The site that the deltas are for.
    pub site: String,
    /// The device token; without one nothing is encoded.
    pub token: Option<Vec<u8>>,
}

/// Asks for a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListRequest {
    /// Length of the list.
    pub count: u32,
    /// What the list is for.
    pub scenario: Scenario,
    /// Only these items, where given. Items that the model does not have are passed over.
    pub allow: Option<Vec<String>>,
    /// Not these items.
    pub deny: Vec<String>,
    /// How much the items differ from one another, 0 to 1.
    pub diversity: f32,
    /// How much the list explores, 0 to 1.
    pub explore: f32,
    /// Seed of the exploration.
    pub seed: u64,
    /// Whether each item comes with its reasons.
    pub reasons: bool,
}

impl Default for ListRequest {
    /// Twenty items to discover, and nothing else asked for.
    fn default() -> Self {
        Self {
            count: 20,
            scenario: Scenario::Discover,
            allow: None,
            deny: Vec::new(),
            diversity: 0.0,
            explore: 0.0,
            seed: 0,
            reasons: false,
        }
    }
}

/// An item of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recommended {
    /// The item's row.
    pub row: Row,
    /// The operator's id.
    pub item_id: String,
    /// Its score: larger is better; comparable within one list only.
    pub score: f32,
    /// Why it is there, the weightiest first; empty where it was not asked for.
    pub reasons: Vec<Why>,
}

/// A part of an item's score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Why {
    /// The part: `taste`, `last`, `popular`, `next` or `own`.
    pub part: String,
    /// Its share of all that speaks for the item, 0 to 1.
    pub share: f32,
    /// Item and kind of the event behind it, where it is one event.
    pub because: Option<(String, String)>,
}

/// Output of `nf_similar`, and the list of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct List {
    /// The model that ranked.
    pub model: ModelInfo,
    /// Best first.
    pub items: Vec<Recommended>,
}

/// What became of a step's events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Learnt {
    /// Events that entered the history.
    pub applied: u32,
    /// Events whose id was counted before.
    pub duplicate: u32,
    /// Events that are context only (impressions, searches).
    pub context_only: u32,
}

/// A choice that a step counted: an item taken while a list was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// The version that made the list.
    pub version: ModelVersion,
    /// Where in it the item stood, as an index of `RankBins::bins`.
    pub bin: u8,
}

/// Output of `nf_step`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stepped {
    /// The state after the step, where it is another one.
    pub state: Option<Vec<u8>>,
    /// What became of the events.
    pub learnt: Learnt,
    /// The choices among them.
    pub choices: Vec<Choice>,
    /// The features of each event, if they were asked for; none of an event that was counted before.
    pub features: Vec<Option<Features>>,
    /// What is to be remembered for the features of later events, if features were asked for.
    pub profile: Option<Vec<u8>>,
    /// The factor by which the user's lists are ranked, d numbers, if it was asked for and there is one.
    pub factor: Option<Vec<f32>>,
    /// What became of the deltas that central's reply names.
    pub outcomes: Vec<(DeltaId, Outcome)>,
    /// Deltas in the outbox now.
    pub outbox: u32,
    /// Events that are in no delta yet.
    pub unsent: u32,
    /// Whether a delta of them is due.
    pub delta_due: bool,
    /// The body for `POST /v1/sync`, if one was asked for and the outbox holds anything.
    pub body: Option<Vec<u8>>,
    /// The list that counts as shown after the step.
    pub shown: Option<Shown>,
    /// The list, if one was asked for.
    pub list: Option<List>,
    /// What is kept, if that was asked for.
    pub inspection: Option<Inspection>,
}

/// An event of the history, newest last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// The item's id, where the model knows the item.
    pub item_id: Option<String>,
    /// The item's key.
    pub key: u64,
    /// The plain name of the kind.
    pub kind: String,
    /// When, in milliseconds.
    pub time_ms: u64,
}

/// What is kept of a user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Inspection {
    /// The model in use.
    pub model: ModelInfo,
    /// What the state remembers.
    pub history: Vec<Seen>,
    /// Deltas that wait for an acknowledgement.
    pub outbox: Vec<DeltaId>,
    /// Bytes of the stored state.
    pub state_bytes: u32,
}

/// Input of `nf_similar`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Similar {
    /// The item that the others are to be like.
    pub item_id: String,
    /// Length of the list.
    pub count: u32,
}

/// Input of `nf_features`: events whose features alone are wanted, without a model.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Featuring<'a> {
    /// What the features of earlier events left, empty for nothing.
    #[serde(borrow)]
    pub profile: &'a [u8],
    /// The events, in order.
    pub events: Cow<'a, [Event]>,
    /// What was known around each of them.
    pub contexts: Cow<'a, [Context]>,
}

/// Output of `nf_features`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Featured {
    /// The features of each event.
    pub features: Vec<Features>,
    /// What is to be remembered for the features of later events.
    pub profile: Vec<u8>,
}
