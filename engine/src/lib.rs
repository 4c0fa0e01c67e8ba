//! The pure core of Nearfield: one person's state, the ranking of the whole catalogue after every
//! event, the small delta that leaves the device, and the merge that learns from deltas.
//!
//! The crate reads no clock, does no I/O and draws no randomness: time, bytes and random ids are
//! arguments. It is not a server, not a storage layer and not a general recommender library.
//!
//! Two paths run through it, and the modules follow them:
//!
//! ```text
//! out    Event → UserState::learn → score → recommend
//! back   Delta → wire → Window::admit → Statistics::publish → patch → Model::apply
//! ```
//!
//! Equations, symbols and sources stand in `docs/model.md`; the bytes in `docs/wire-format.md`.
//!
//! # Limits
//! At most 512 factors an item (the integer dot product must fit an `i32`), 2²⁴ rows, 512 events of
//! history a person, 128 bytes an item id.

pub mod delta;
pub mod drift;
pub mod error;
pub mod event;
pub mod features;
pub mod fold_in;
pub mod golden;
pub mod hyper;
pub mod ids;
mod kernel;
pub mod manifest;
pub mod merge;
pub mod model;
pub mod pack;
pub mod patch;
pub mod popularity;
pub mod recommend;
pub mod score;
pub mod transitions;
pub mod user_state;
pub mod wire;

#[cfg(feature = "train")]
pub mod evaluate;
#[cfg(feature = "train")]
pub mod event_log;
#[cfg(feature = "train")]
pub mod train;

pub use delta::{Delta, Touch, VersionMetrics};
pub use error::{
    CatalogError, DecodeError, EventError, ManifestError, MergeError, PackError, PatchError, Refusal,
    StateError, WireError,
};
pub use event::{Event, Kind};
pub use hyper::{Blend, Bounds, Hyperparameters, Scenario};
pub use ids::{DeltaId, ItemKey, Lineage, ModelVersion, Row};
pub use merge::{Publication, Statistics, Window};
pub use model::Model;
pub use patch::Patch;
pub use recommend::{Request, Scored};
pub use user_state::{HistoryEntry, Learned, RankBins, UserState};
pub use wire::{Outcome, SyncReply, SyncRequest};
