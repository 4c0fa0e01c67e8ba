//! The log: admitted deltas, catalogue changes and publish marks, in one durable sequence, with the
//! dedup ids, the published versions and the window key beside it.
//!
//! [`Log`] says what every backend promises; [`redb::RedbLog`] keeps all of it in one file. The tests
//! in `contract.rs` run on every backend.

#[cfg(test)]
mod contract;
pub mod entry;
pub mod redb;

use entry::{Change, Entry, LoggedDelta, Mark, SnapshotRecord, VersionRecord};
use nearfield_engine::{DeltaId, Lineage, ModelVersion, Row};
use serde::{Deserialize, Serialize};
use std::error::Error;
use std::fmt;
use std::path::PathBuf;

/// Schema of the log that this build reads and writes.
pub const SCHEMA: u16 = 4;

/// Entries that a reader asks for at once: bounds the memory of a replay.
const READ_ENTRIES: usize = 4096;

/// Why the log could not do what was asked.
#[derive(Debug)]
pub enum LogError {
    /// Another process has the file open.
    InUse(PathBuf),
    /// The storage failed: nothing of the transaction holds.
    Storage(Box<dyn Error + Send + Sync>),
    /// A record does not decode.
    Damaged {
        /// The record.
        what: String,
    },
    /// Written by another build.
    Schema {
        /// Schema of the file.
        found: u16,
    },
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse(path) => write!(
                f,
                "{} is in use by a running server; stop it, or use its admin listener",
                path.display()
            ),
            Self::Storage(error) => write!(f, "the store failed: {error}"),
            Self::Damaged { what } => write!(f, "the store is damaged: {what} does not decode"),
            Self::Schema { found } => write!(
                f,
                "the store has schema {found}, this build knows {SCHEMA}: start over from a new training, or go on \
                 with the build that wrote it"
            ),
        }
    }
}

impl Error for LogError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Storage(error) => Some(&**error),
            Self::InUse(_) | Self::Damaged { .. } | Self::Schema { .. } => None,
        }
    }
}

/// What a log belongs to; fixed when it is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Schema of the log.
    pub schema: u16,
    /// The site that it serves.
    pub site: String,
    /// The lineage that it continues.
    pub lineage: Lineage,
}

/// Key of a row that waits for devices; tags of devices are made with it.
pub type RowKey = [u8; 32];

/// A delta that may be appended.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Its id.
    pub id: DeltaId,
    /// Version that it was folded in on: its id is remembered as long as this version is kept.
    pub base_version: ModelVersion,
    /// What to append; `None` for a delta that was refused, which may still turn out a duplicate.
    pub delta: Option<LoggedDelta>,
}

/// What a publish wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marked {
    /// The mark's number.
    pub number: u64,
    /// The oldest version kept.
    pub oldest_base: ModelVersion,
}

/// What became of one delta of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// In the log under this number.
    New(u64),
    /// Its id is known already; nothing was written.
    Duplicate,
}

/// The durable log of one site and lineage.
///
/// # Contract
/// - **Durable.** A method that writes returns only after all that it wrote survives a crash. An edge
///   drops its delta on the acknowledgement, so the reverse order could lose learning.
/// - **Atomic.** What one call writes holds as a whole or not at all, also after an error or a crash.
/// - **Ordered.** Entries have rising numbers from 1. A number is never used again, also when a
///   snapshot has emptied the log.
/// - **Once.** A delta's id is remembered from [`Log::append`] until [`Log::publish`] forgets the version
///   that the delta is based on; until then the id is not appended again. A version that was forgotten does
///   not come back, so [`Log::oldest_base`] only rises and a delta whose id is forgotten is never admitted
///   again.
/// - **One writer.** Only one process writes. After a failed write it is unknown what the storage holds,
///   so the caller writes nothing more.
///
/// # Errors
/// Every method returns [`LogError::Storage`] where the storage fails and [`LogError::Damaged`] where
/// a record does not decode.
pub trait Log: Send + Sync {
    /// Writes the first state of an empty log.
    fn initialise(
        &self,
        identity: &Identity,
        snapshot: &SnapshotRecord,
        version: &VersionRecord,
        window_key: &[u8; 32],
    ) -> Result<(), LogError>;

    /// Returns what the log belongs to, or `None` for an empty log; [`LogError::Schema`] for a log of
    /// another build.
    fn identity(&self) -> Result<Option<Identity>, LogError>;

    /// Appends deltas, each with its dedup id. A delta whose id is known, or came earlier in the same
    /// batch, is a duplicate and is not written again; a refused one that is none gives `None`. `row_keys`
    /// are the keys of rows that had none before.
    fn append(
        &self,
        batch: &[Candidate],
        row_keys: &[(Row, RowKey)],
    ) -> Result<Vec<Option<Appended>>, LogError>;

    /// Appends catalogue changes and returns their number.
    fn append_changes(&self, changes: Vec<Change>) -> Result<u64, LogError>;

    /// Appends a publish mark with its version, replaces the window key, forgets the versions that have not
    /// been the newest for `keep_ms` of uptime and the ids of the deltas based on them, and destroys the keys
    /// of rows that do not wait any more; all of it together.
    fn publish(
        &self,
        mark: Mark,
        version: &VersionRecord,
        keep_ms: u64,
        window_key: &[u8; 32],
        published_rows: &[Row],
    ) -> Result<Marked, LogError>;

    /// Makes `snapshot` the one that replay starts from, and deletes the entries that it contains. Its
    /// files must be durable already.
    fn set_snapshot(&self, snapshot: &SnapshotRecord) -> Result<(), LogError>;

    /// Returns where the last snapshot stands.
    fn snapshot(&self) -> Result<SnapshotRecord, LogError>;

    /// Returns the oldest version kept. Deltas may be based on it and on newer ones; ids of deltas on older
    /// ones are forgotten.
    fn oldest_base(&self) -> Result<ModelVersion, LogError>;

    /// Returns the key that device tags of the open window are made with.
    fn window_key(&self) -> Result<[u8; 32], LogError>;

    /// Returns the keys of the rows that wait for devices, rising rows.
    fn row_keys(&self) -> Result<Vec<(Row, RowKey)>, LogError>;

    /// Returns up to `max` entries after number `after`, in order; fewer only at the end.
    fn read(&self, after: u64, max: usize) -> Result<Vec<(u64, Entry)>, LogError>;

    /// Returns the record of a version, while it is kept.
    fn version(&self, version: ModelVersion) -> Result<Option<VersionRecord>, LogError>;

    /// Returns the number of entries that no snapshot contains yet.
    fn entries(&self) -> Result<u64, LogError>;

    /// Returns the number of the last entry, or `None` while the log is empty.
    fn last_number(&self) -> Result<Option<u64>, LogError>;

    /// Returns how many delta ids are remembered.
    fn remembered_ids(&self) -> Result<u64, LogError>;
}

/// Calls `visit` with every entry after number `after`, in order.
///
/// # Errors
/// [`LogError`], or what `visit` returns.
pub fn for_each_entry<E: From<LogError>>(
    log: &dyn Log,
    mut after: u64,
    mut visit: impl FnMut(u64, Entry) -> Result<(), E>,
) -> Result<(), E> {
    loop {
        let entries = log.read(after, READ_ENTRIES)?;
        let Some((last, _)) = entries.last() else { return Ok(()) };
        after = *last;
        for (number, entry) in entries {
            visit(number, entry)?;
        }
    }
}
