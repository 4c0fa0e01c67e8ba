//! The durable store: one redb file that holds the log, the dedup ids, the published versions and
//! the window key.
//!
//! A delta, its dedup id and its log position commit in one transaction, and [`Store::append`]
//! returns only after that transaction is on disk: a device drops its delta on the
//! acknowledgement, so the reverse order could lose learning.
//!
//! # Limits
//! One process at a time. A failed commit leaves the file as it was before; the caller must stop
//! writing, since the disk can no longer be trusted.

use crate::log::entry::{Change, Entry, LoggedDelta, Mark, SnapshotRecord, VersionRecord};
use nearfield_engine::{DeltaId, Lineage, ModelVersion};
use redb::{
    Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::fmt;
use std::path::{Path, PathBuf};

/// Schema of the store that this build reads and writes.
pub const SCHEMA: u16 = 1;

/// Facts about the whole store, and the window key.
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
/// Sequence number → [`Entry`], from 1.
const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log");
/// Delta id → base version, which says how long the id is kept.
const DEDUP: TableDefinition<&[u8; 16], u64> = TableDefinition::new("dedup");
/// Base version (big-endian) and delta id, so that ids of old versions are found in one range.
const DEDUP_BY_BASE: TableDefinition<&[u8; 24], ()> = TableDefinition::new("dedup_by_base");
/// Version → [`VersionRecord`].
const VERSIONS: TableDefinition<u64, &[u8]> = TableDefinition::new("versions");

const IDENTITY: &str = "identity";
const SNAPSHOT: &str = "snapshot";
const WINDOW_KEY: &str = "window_key";

/// Why the store could not do what was asked.
#[derive(Debug)]
pub enum StoreError {
    /// Another process has the file open.
    InUse(PathBuf),
    /// The storage failed: nothing of the transaction holds.
    Storage(Box<redb::Error>),
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

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse(path) => write!(
                f,
                "{} is in use by a running server; stop it, or use its admin listener",
                path.display()
            ),
            Self::Storage(error) => write!(f, "the store failed: {error}"),
            Self::Damaged { what } => write!(f, "the store is damaged: {what} does not decode"),
            Self::Schema { found } => write!(f, "the store has schema {found}, this build knows {SCHEMA}"),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Storage(error) => Some(error),
            Self::InUse(_) | Self::Damaged { .. } | Self::Schema { .. } => None,
        }
    }
}

fn storage(error: impl Into<redb::Error>) -> StoreError {
    StoreError::Storage(Box::new(error.into()))
}

/// What a store belongs to; fixed when it is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Schema of the store.
    pub schema: u16,
    /// The site that it serves.
    pub site: String,
    /// The lineage that it goes on from.
    pub lineage: Lineage,
}

/// What became of one delta of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// In the log under this number.
    New(u64),
    /// Its id is known already; nothing was written.
    Duplicate,
}

/// The durable store.
pub struct Store {
    db: Database,
}

impl Store {
    /// Opens the store at `path`, or makes an empty one.
    ///
    /// # Errors
    /// [`StoreError::InUse`] while another process has it open, [`StoreError::Storage`] where the
    /// disk refuses.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let db = Database::create(path).map_err(|error| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => StoreError::InUse(path.to_owned()),
            other => storage(other),
        })?;
        let store = Self { db };
        let txn = store.begin()?;
        txn.open_table(META).map_err(storage)?;
        txn.open_table(LOG).map_err(storage)?;
        txn.open_table(DEDUP).map_err(storage)?;
        txn.open_table(DEDUP_BY_BASE).map_err(storage)?;
        txn.open_table(VERSIONS).map_err(storage)?;
        txn.commit().map_err(storage)?;
        Ok(store)
    }

    fn begin(&self) -> Result<WriteTransaction, StoreError> {
        let mut txn = self.db.begin_write().map_err(storage)?;
        // A torn write of the commit itself must never look committed.
        txn.set_two_phase_commit(true);
        Ok(txn)
    }

    /// Writes the first state of an empty store, in one transaction.
    ///
    /// # Errors
    /// [`StoreError::Storage`].
    pub fn initialise(
        &self,
        identity: &Identity,
        snapshot: &SnapshotRecord,
        version: &VersionRecord,
        window_key: &[u8; 32],
    ) -> Result<(), StoreError> {
        let txn = self.begin()?;
        {
            let mut meta = txn.open_table(META).map_err(storage)?;
            meta.insert(IDENTITY, encode(identity).as_slice()).map_err(storage)?;
            meta.insert(SNAPSHOT, encode(snapshot).as_slice()).map_err(storage)?;
            meta.insert(WINDOW_KEY, window_key.as_slice()).map_err(storage)?;
            let mut versions = txn.open_table(VERSIONS).map_err(storage)?;
            versions.insert(version.version.0, encode(version).as_slice()).map_err(storage)?;
        }
        txn.commit().map_err(storage)
    }

    /// Returns what the store belongs to, or `None` for an empty store.
    ///
    /// # Errors
    /// [`StoreError::Schema`] for a store of another build.
    pub fn identity(&self) -> Result<Option<Identity>, StoreError> {
        let identity: Option<Identity> = self.meta(IDENTITY)?;
        match identity {
            Some(identity) if identity.schema != SCHEMA => Err(StoreError::Schema { found: identity.schema }),
            other => Ok(other),
        }
    }

    /// Returns where the last snapshot stands.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] for a store without one.
    pub fn snapshot(&self) -> Result<SnapshotRecord, StoreError> {
        self.meta(SNAPSHOT)?.ok_or_else(|| StoreError::Damaged { what: "the snapshot record".into() })
    }

    /// Returns the key that device tags of the open window are made with.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] for a store without one.
    pub fn window_key(&self) -> Result<[u8; 32], StoreError> {
        let txn = self.db.begin_read().map_err(storage)?;
        let table = txn.open_table(META).map_err(storage)?;
        let value = table.get(WINDOW_KEY).map_err(storage)?;
        value
            .and_then(|value| value.value().try_into().ok())
            .ok_or_else(|| StoreError::Damaged { what: "the window key".into() })
    }

    fn meta<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, StoreError> {
        let txn = self.db.begin_read().map_err(storage)?;
        let table = txn.open_table(META).map_err(storage)?;
        let value = table.get(key).map_err(storage)?;
        value.map(|value| decode(value.value(), || format!("the record {key:?}"))).transpose()
    }

    /// Appends deltas to the log, each with its dedup id, in one durable transaction. A delta whose
    /// id is known, or came earlier in the same batch, is a duplicate and is not written again.
    /// `None` stands for a delta that was refused: it may still turn out a duplicate.
    ///
    /// # Errors
    /// [`StoreError::Storage`]: nothing of the batch was written.
    pub fn append(
        &self,
        batch: &[(DeltaId, Option<LoggedDelta>)],
    ) -> Result<Vec<Option<Appended>>, StoreError> {
        let txn = self.begin()?;
        let mut outcomes = Vec::with_capacity(batch.len());
        let mut written = false;
        {
            let mut log = txn.open_table(LOG).map_err(storage)?;
            let mut dedup = txn.open_table(DEDUP).map_err(storage)?;
            let mut by_base = txn.open_table(DEDUP_BY_BASE).map_err(storage)?;
            let mut next = next_sequence(&txn, &log)?;
            for (id, delta) in batch {
                if dedup.get(&id.0).map_err(storage)?.is_some() {
                    outcomes.push(Some(Appended::Duplicate));
                    continue;
                }
                let Some(delta) = delta else {
                    outcomes.push(None);
                    continue;
                };
                dedup.insert(&id.0, delta.base_version.0).map_err(storage)?;
                by_base.insert(&base_key(delta.base_version, *id), ()).map_err(storage)?;
                log.insert(next, encode(&Entry::Delta(delta.clone())).as_slice()).map_err(storage)?;
                outcomes.push(Some(Appended::New(next)));
                next += 1;
                written = true;
            }
        }
        if written {
            txn.commit().map_err(storage)?;
        } else {
            txn.abort().map_err(storage)?;
        }
        Ok(outcomes)
    }

    /// Appends catalogue changes to the log, durably, and returns their sequence number.
    ///
    /// # Errors
    /// [`StoreError::Storage`].
    pub fn append_changes(&self, changes: Vec<Change>) -> Result<u64, StoreError> {
        let txn = self.begin()?;
        let sequence = push(&txn, &Entry::Catalogue(changes))?;
        txn.commit().map_err(storage)?;
        Ok(sequence)
    }

    /// Appends a publish mark with its version, replaces the window key, and forgets dedup ids and
    /// versions older than `oldest`; all in one durable transaction. Returns the mark's number.
    ///
    /// The old key is overwritten in the file's tree; redb reuses the freed page in time, so a copy
    /// may stay in unused space of the file until then.
    ///
    /// # Errors
    /// [`StoreError::Storage`].
    pub fn publish(
        &self,
        mark: Mark,
        version: &VersionRecord,
        oldest: ModelVersion,
        window_key: &[u8; 32],
    ) -> Result<u64, StoreError> {
        let txn = self.begin()?;
        let sequence = push(&txn, &Entry::Mark(mark))?;
        {
            let mut meta = txn.open_table(META).map_err(storage)?;
            meta.insert(WINDOW_KEY, window_key.as_slice()).map_err(storage)?;
            let mut versions = txn.open_table(VERSIONS).map_err(storage)?;
            versions.insert(version.version.0, encode(version).as_slice()).map_err(storage)?;
            versions.retain_in(..oldest.0, |_, _| false).map_err(storage)?;
            let mut dedup = txn.open_table(DEDUP).map_err(storage)?;
            let mut by_base = txn.open_table(DEDUP_BY_BASE).map_err(storage)?;
            let end = base_key(oldest, DeltaId([0; 16]));
            for entry in by_base.extract_from_if::<&[u8; 24], _>(..&end, |_, _| true).map_err(storage)? {
                let (key, _) = entry.map_err(storage)?;
                let id: &[u8; 16] = key.value()[8..].try_into().expect("24 bytes less 8 are 16");
                dedup.remove(id).map_err(storage)?;
            }
        }
        txn.commit().map_err(storage)?;
        Ok(sequence)
    }

    /// Makes `snapshot` the one that replay starts from, and deletes the log entries in it. Its
    /// files must be durable already.
    ///
    /// # Errors
    /// [`StoreError::Storage`].
    pub fn set_snapshot(&self, snapshot: &SnapshotRecord) -> Result<(), StoreError> {
        let txn = self.begin()?;
        {
            let mut meta = txn.open_table(META).map_err(storage)?;
            meta.insert(SNAPSHOT, encode(snapshot).as_slice()).map_err(storage)?;
            let mut log = txn.open_table(LOG).map_err(storage)?;
            log.retain_in(..=snapshot.sequence, |_, _| false).map_err(storage)?;
        }
        txn.commit().map_err(storage)
    }

    /// Calls `visit` with every log entry after `sequence`, in order.
    ///
    /// # Errors
    /// [`StoreError`], or what `visit` returns.
    pub fn replay<E: From<StoreError>>(
        &self,
        sequence: u64,
        mut visit: impl FnMut(u64, Entry) -> Result<(), E>,
    ) -> Result<(), E> {
        let txn = self.db.begin_read().map_err(storage)?;
        let log = txn.open_table(LOG).map_err(storage)?;
        for entry in log.range(sequence + 1..).map_err(storage)? {
            let (number, value) = entry.map_err(storage)?;
            let number = number.value();
            visit(number, decode(value.value(), || format!("log entry {number}"))?)?;
        }
        Ok(())
    }

    /// Returns the versions kept, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn versions(&self) -> Result<Vec<VersionRecord>, StoreError> {
        let txn = self.db.begin_read().map_err(storage)?;
        let versions = txn.open_table(VERSIONS).map_err(storage)?;
        let mut records = Vec::new();
        for entry in versions.iter().map_err(storage)? {
            let (number, value) = entry.map_err(storage)?;
            records.push(decode(value.value(), || format!("the record of version {}", number.value()))?);
        }
        Ok(records)
    }

    /// Returns the number of log entries that no snapshot contains yet.
    ///
    /// # Errors
    /// [`StoreError::Storage`].
    pub fn log_len(&self) -> Result<u64, StoreError> {
        let txn = self.db.begin_read().map_err(storage)?;
        txn.open_table(LOG).map_err(storage)?.len().map_err(storage)
    }

    /// Returns the number of the last log entry, or `None` while the log is empty.
    ///
    /// # Errors
    /// [`StoreError::Storage`].
    pub fn last_sequence(&self) -> Result<Option<u64>, StoreError> {
        let txn = self.db.begin_read().map_err(storage)?;
        let log = txn.open_table(LOG).map_err(storage)?;
        Ok(log.last().map_err(storage)?.map(|(number, _)| number.value()))
    }

    /// Returns the number of delta ids that are remembered.
    ///
    /// # Errors
    /// [`StoreError::Storage`].
    pub fn dedup_len(&self) -> Result<u64, StoreError> {
        let txn = self.db.begin_read().map_err(storage)?;
        txn.open_table(DEDUP).map_err(storage)?.len().map_err(storage)
    }
}

/// Returns the number that the next log entry gets: numbers are never used again, also when a
/// snapshot has emptied the log.
fn next_sequence(txn: &WriteTransaction, log: &redb::Table<'_, u64, &[u8]>) -> Result<u64, StoreError> {
    if let Some((last, _)) = log.last().map_err(storage)? {
        return Ok(last.value() + 1);
    }
    let meta = txn.open_table(META).map_err(storage)?;
    let snapshot = meta.get(SNAPSHOT).map_err(storage)?;
    let snapshot = snapshot.ok_or_else(|| StoreError::Damaged { what: "the snapshot record".into() })?;
    let snapshot: SnapshotRecord = decode(snapshot.value(), || "the snapshot record".into())?;
    Ok(snapshot.sequence + 1)
}

fn push(txn: &WriteTransaction, entry: &Entry) -> Result<u64, StoreError> {
    let mut log = txn.open_table(LOG).map_err(storage)?;
    let sequence = next_sequence(txn, &log)?;
    log.insert(sequence, encode(entry).as_slice()).map_err(storage)?;
    Ok(sequence)
}

fn base_key(base: ModelVersion, id: DeltaId) -> [u8; 24] {
    let mut key = [0; 24];
    key[..8].copy_from_slice(&base.0.to_be_bytes());
    key[8..].copy_from_slice(&id.0);
    key
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_allocvec(value).expect("a store record has no type that postcard refuses")
}

fn decode<T: DeserializeOwned>(bytes: &[u8], what: impl FnOnce() -> String) -> Result<T, StoreError> {
    postcard::from_bytes(bytes).map_err(|_| StoreError::Damaged { what: what() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store.redb")).unwrap();
        let identity = Identity { schema: SCHEMA, site: "test".into(), lineage: Lineage(7) };
        let snapshot = SnapshotRecord {
            sequence: 0,
            version: ModelVersion(1),
            statistics_hash: [1; 32],
            pack_hash: [2; 32],
        };
        store.initialise(&identity, &snapshot, &version(1), &[9; 32]).unwrap();
        (dir, store)
    }

    fn version(number: u64) -> VersionRecord {
        VersionRecord {
            version: ModelVersion(number),
            pack_hash: [0; 32],
            pack_bytes: 1,
            rows: 3,
            published_ms: 0,
            changed_rows: vec![1, 2],
        }
    }

    fn mark(number: u64) -> Mark {
        Mark { version: ModelVersion(number), k: 1, deltas: 1, pack_hash: [0; 32] }
    }

    fn delta(id: u8, base: u64) -> (DeltaId, Option<LoggedDelta>) {
        let id = DeltaId([id; 16]);
        let logged = LoggedDelta { id, base_version: ModelVersion(base), device_tag: 5, bytes: vec![1] };
        (id, Some(logged))
    }

    #[test]
    fn a_known_id_is_a_duplicate_within_and_across_batches() {
        let (_dir, store) = store();
        let first = store.append(&[delta(1, 1), delta(1, 1), delta(2, 1)]).unwrap();
        assert_eq!(first, [Some(Appended::New(1)), Some(Appended::Duplicate), Some(Appended::New(2))]);
        assert_eq!(store.append(&[delta(2, 1)]).unwrap(), [Some(Appended::Duplicate)]);
        assert_eq!((store.log_len().unwrap(), store.dedup_len().unwrap()), (2, 2));
    }

    #[test]
    fn a_refused_delta_writes_nothing() {
        let (_dir, store) = store();
        assert_eq!(store.append(&[(DeltaId([3; 16]), None)]).unwrap(), [None]);
        assert_eq!((store.log_len().unwrap(), store.dedup_len().unwrap()), (0, 0));
    }

    #[test]
    fn ids_are_kept_as_long_as_their_base_version() {
        let (_dir, store) = store();
        store.append(&[delta(1, 1), delta(2, 2)]).unwrap();
        store.publish(mark(2), &version(2), ModelVersion(2), &[8; 32]).unwrap();
        assert_eq!(store.dedup_len().unwrap(), 1);
        assert_eq!(store.append(&[delta(2, 2)]).unwrap(), [Some(Appended::Duplicate)]);
        let versions: Vec<u64> = store.versions().unwrap().iter().map(|record| record.version.0).collect();
        assert_eq!(versions, [2]);
        assert_eq!(store.window_key().unwrap(), [8; 32]);
    }

    #[test]
    fn a_snapshot_empties_the_log_and_numbers_go_on() {
        let (_dir, store) = store();
        store.append(&[delta(1, 1), delta(2, 1)]).unwrap();
        let snapshot = SnapshotRecord { sequence: 2, ..store.snapshot().unwrap() };
        store.set_snapshot(&snapshot).unwrap();
        assert_eq!(store.log_len().unwrap(), 0);
        assert_eq!(store.append(&[delta(3, 1)]).unwrap(), [Some(Appended::New(3))]);
        let mut seen = Vec::new();
        store
            .replay::<StoreError>(2, |number, _| {
                seen.push(number);
                Ok(())
            })
            .unwrap();
        assert_eq!(seen, [3]);
    }

    #[test]
    fn a_second_process_is_told_that_the_store_is_in_use() {
        let (dir, _store) = store();
        let Err(error) = Store::open(&dir.path().join("store.redb")) else { panic!("opened twice") };
        assert!(matches!(error, StoreError::InUse(_)), "{error}");
        assert!(error.to_string().contains("in use by a running server"), "{error}");
    }
}
