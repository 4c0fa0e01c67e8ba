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
//! back   Delta → wire → Window::admit → Statistics::publish → patch → Update → Model::apply
//! ```
//!
//! Equations, symbols and sources stand in `docs/model.md`; the bytes in `docs/wire-format.md`.
//!
//! # Limits
//! At most 512 factors an item (the integer dot product must fit an `i32`), 2²⁴ rows, 639 events of
//! history a person, 128 bytes an item id.
//!
//! On wasm32 the crate does without `std`, so that a page does not download what would print a panic.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

mod encoding;
pub mod error;
pub mod event;
pub mod features;
pub mod golden;
pub mod ids;
pub mod limits;
pub mod merge;
pub mod model;
mod once;
pub mod person;
pub mod rank;
mod session;
pub mod sync;

pub use nearfield_kernels::algebra;

pub use error::{
    CatalogError, DecodeError, EventError, ManifestError, MergeError, PackError, PatchError, Refusal,
    StateError, UpdateError, WireError,
};
pub use event::{Context, Event, Kind};
pub use ids::{DeltaId, ItemKey, Lineage, ModelVersion, Row};
pub use merge::{Policy, Preview, Publication, RowVersions, Statistics, Threshold, Window};
pub use model::Model;
pub use model::blend::{Blend, Scenario};
pub use model::hyper::{Bounds, Hyperparameters};
pub use model::patch::Patch;
pub use model::update::{Held, Step, Update};
pub use person::{HistoryEntry, Learned, Part, RankBins, Reason, Reasons, UserState, Workspace};
pub use rank::Read;
pub use rank::request::Request;
pub use rank::top_k::Scored;
pub use sync::delta::{Delta, Touch, VersionMetrics};
pub use sync::wire::{Outcome, SyncReply, SyncRequest};
