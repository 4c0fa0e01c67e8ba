//! What the log holds: admitted deltas, catalogue changes and publish marks, in one sequence.
//!
//! The log is the truth. Model files, patches and manifests are derived from it: replaying the
//! entries after the last snapshot, in order, gives the same model to the byte, and every
//! [`Mark`] carries the hash that proves it.

use nearfield_engine::{ModelVersion, Threshold};
use serde::{Deserialize, Serialize};

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Entry {
    /// A delta that was checked, admitted and acknowledged.
    Delta(LoggedDelta),
    /// Changes of the operator's catalogue.
    Catalogue(Vec<Change>),
    /// A model version was published from everything before this entry.
    Mark(Mark),
}

/// An admitted delta beside its device tag.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoggedDelta {
    /// Keyed hash of the device token with the window key. The key is replaced at every publish,
    /// so a tag ties nothing together beyond one window.
    pub device_tag: u64,
    /// For each item of the delta, the keyed hash of the device token with the key of the item's row; empty
    /// where no row waits for devices. A row's key is destroyed when the row has been published.
    pub row_tags: Vec<u32>,
    /// The delta as `wire::encode_delta` writes it.
    pub bytes: Vec<u8>,
}

/// One change of the operator's catalogue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// The item gets a row, unless it has one.
    Add(String),
    /// The item is withdrawn; its row is never used again.
    Withdraw(String),
}

/// A publish mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The version published.
    pub version: ModelVersion,
    /// What rows had to reach to be in it.
    pub threshold: Threshold,
    /// Deltas in the window.
    pub deltas: u64,
    /// BLAKE3 of the published pack: the replay must reach the same.
    pub pack_hash: [u8; 32],
}

/// A published version, as kept for as long as deltas may be based on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRecord {
    /// The version.
    pub version: ModelVersion,
    /// BLAKE3 of its pack.
    pub pack_hash: [u8; 32],
    /// Length of its pack, in bytes.
    pub pack_bytes: u64,
    /// Deltas merged into it and all versions before it, since the first start.
    pub deltas: u64,
    /// How long the service had run when it was published, all its runs together, in milliseconds. No clock
    /// that is set has a part in it, and a time in which the service could take nothing does not count.
    pub uptime_ms: u64,
}

/// Where a snapshot stands in the log, and the hashes of its two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRecord {
    /// Number of the last log entry that the snapshot contains.
    pub sequence: u64,
    /// The model's version.
    pub version: ModelVersion,
    /// BLAKE3 of the statistics file.
    pub statistics_hash: [u8; 32],
    /// BLAKE3 of the pack file.
    pub pack_hash: [u8; 32],
}
