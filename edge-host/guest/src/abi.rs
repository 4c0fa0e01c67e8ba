//! The messages between host and guest, as postcard. One file, included by both, so that they
//! cannot disagree unnoticed: whoever changes a message raises [`ABI_VERSION`].

use nearfield_engine::{DeltaId, Event, Lineage, ModelVersion, Outcome, Row, Scenario};
use serde::{Deserialize, Serialize};

/// Version of exports and messages. The host refuses a guest that answers another number.
pub const ABI_VERSION: u32 = 1;

/// The outcome of a call: the number that every export with a status returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Status {
    /// Done; the output holds the answer.
    Ok = 0,
    /// A message did not decode, or lies outside the memory that the host was given.
    BadMessage = 1,
    /// The call needs a model and none is loaded.
    NoModel = 2,
    /// No open user has this handle.
    BadHandle = 3,
    /// The model pack was refused; the model held before stays.
    Pack = 4,
    /// The patch was refused; the model held before stays.
    Patch = 5,
    /// The stored state was refused.
    State = 6,
    /// An event was refused. Events of the batch that stand before it are learnt already: the host
    /// closes the handle unsaved and so forgets them.
    Event = 7,
    /// A sync body could not be encoded, or a reply not decoded.
    Wire = 8,
}

impl Status {
    /// All statuses, at the index of their number.
    pub const ALL: [Status; 9] = [
        Status::Ok,
        Status::BadMessage,
        Status::NoModel,
        Status::BadHandle,
        Status::Pack,
        Status::Patch,
        Status::State,
        Status::Event,
        Status::Wire,
    ];

    /// Returns a short stable name, for metrics and for callers' code.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::BadMessage => "bad_message",
            Self::NoModel => "no_model",
            Self::BadHandle => "bad_handle",
            Self::Pack => "pack",
            Self::Patch => "patch",
            Self::State => "state",
            Self::Event => "event",
            Self::Wire => "wire",
        }
    }
}

/// The output of a call whose status is not [`Status::Ok`].
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

/// Input of `nf_user_learn`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Learn {
    /// The host's clock, in milliseconds since 1970-01-01 UTC.
    pub now_ms: u64,
    /// The events, in order.
    pub events: Vec<Event>,
}

/// Output of `nf_user_learn`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Learnt {
    /// Events that entered the history.
    pub applied: u32,
    /// Events whose id was counted before.
    pub duplicate: u32,
    /// Events that are context only (impressions, searches).
    pub context_only: u32,
    /// Whether a delta is due.
    pub delta_due: bool,
}

/// Input of `nf_user_recommend`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Recommend {
    /// Length of the list.
    pub count: u32,
    /// What the list is for.
    pub scenario: Scenario,
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
}

/// Output of `nf_user_recommend`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct List {
    /// The model that ranked.
    pub model: ModelInfo,
    /// Best first.
    pub items: Vec<Recommended>,
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

/// Output of `nf_user_inspect`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Inspection {
    /// The model in use.
    pub model: ModelInfo,
    /// What the state remembers.
    pub history: Vec<Seen>,
    /// Deltas that wait for an acknowledgement.
    pub outbox: Vec<DeltaId>,
    /// Bytes of the saved state.
    pub state_bytes: u32,
}

/// Input of `nf_user_take_delta`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct TakeDelta {
    /// 128 random bits: the guest draws no randomness.
    pub id: DeltaId,
    /// The host's clock, in milliseconds.
    pub now_ms: u64,
}

/// Output of `nf_user_take_delta`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Whether a delta was due and has moved into the outbox, which was empty. The host stores the state before it
    /// sends anything.
    pub taken: bool,
    /// Deltas in the outbox now.
    pub outbox: u32,
    /// Events that are in no delta yet.
    pub unsent: u32,
}

/// Input of `nf_user_encode_sync`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EncodeSync {
    /// The site that the deltas are for.
    pub site: String,
    /// The device token.
    pub token: Vec<u8>,
}

/// Output of `nf_user_settle`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settled {
    /// What became of each delta.
    pub outcomes: Vec<(DeltaId, Outcome)>,
    /// Deltas still in the outbox.
    pub outbox: u32,
    /// Events that are in no delta yet.
    pub unsent: u32,
    /// Lineage of central's latest model.
    pub lineage: Lineage,
    /// Version of central's latest model.
    pub version: ModelVersion,
}
