//! The log in one redb file: entries, dedup ids, published versions and the window key.
//!
//! A delta, its dedup id and its log position commit in one transaction, which is on disk when the
//! call returns. A failed commit leaves the file as it was before.

use super::entry::{Change, Entry, LoggedDelta, Mark, SnapshotRecord, VersionRecord};
use super::{Appended, Identity, Log, LogError, RowKey, SCHEMA};
use crate::durable;
use nearfield_engine::{DeltaId, ModelVersion, Row};
use redb::{
    Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction,
};
use serde::{Serialize, de::DeserializeOwned};
use std::path::Path;

/// Name of the log's file within the data directory.
pub const STORE_FILE: &str = "store.redb";

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
/// Row → its [`RowKey`], while it waits for devices.
const ROW_KEYS: TableDefinition<u32, &RowKey> = TableDefinition::new("row_keys");

const IDENTITY: &str = "identity";
const SNAPSHOT: &str = "snapshot";
const WINDOW_KEY: &str = "window_key";
const OLDEST_BASE: &str = "oldest_base";

fn storage(error: impl Into<redb::Error>) -> LogError {
    LogError::Storage(Box::new(error.into()))
}

/// A log in one redb file.
pub struct RedbLog {
    db: Database,
}

impl RedbLog {
    /// Opens the log at `path`, or makes an empty one.
    ///
    /// # Errors
    /// [`LogError::InUse`] while another process has it open, [`LogError::Storage`] where the
    /// disk refuses.
    pub fn open(path: &Path) -> Result<Self, LogError> {
        let db = Database::create(path).map_err(|error| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => LogError::InUse(path.to_owned()),
            other => storage(other),
        })?;
        let log = Self::set_up(db)?;
        if let Some(folder) = path.parent() {
            // The file's name must be on disk too before anything is acknowledged.
            durable::sync_folder(folder).map_err(|error| LogError::Storage(Box::new(error)))?;
        }
        Ok(log)
    }

    /// Opens the log on a storage of the caller's, or makes an empty one there.
    ///
    /// # Errors
    /// [`LogError::Storage`] where the storage refuses.
    pub fn on(backend: impl redb::StorageBackend) -> Result<Self, LogError> {
        Self::set_up(Database::builder().create_with_backend(backend).map_err(storage)?)
    }

    /// Makes the tables that are not there.
    fn set_up(db: Database) -> Result<Self, LogError> {
        let log = Self { db };
        let txn = log.begin()?;
        txn.open_table(META).map_err(storage)?;
        txn.open_table(LOG).map_err(storage)?;
        txn.open_table(DEDUP).map_err(storage)?;
        txn.open_table(DEDUP_BY_BASE).map_err(storage)?;
        txn.open_table(VERSIONS).map_err(storage)?;
        txn.open_table(ROW_KEYS).map_err(storage)?;
        txn.commit().map_err(storage)?;
        Ok(log)
    }

    fn begin(&self) -> Result<WriteTransaction, LogError> {
        let mut txn = self.db.begin_write().map_err(storage)?;
        // A torn write of the commit itself must never look committed.
        txn.set_two_phase_commit(true);
        Ok(txn)
    }

    fn meta<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, LogError> {
        let txn = self.db.begin_read().map_err(storage)?;
        read_meta(&txn.open_table(META).map_err(storage)?, key)
    }
}

fn read_meta<T: DeserializeOwned>(
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
    key: &str,
) -> Result<Option<T>, LogError> {
    let value = meta.get(key).map_err(storage)?;
    value.map(|value| decode(value.value(), || format!("the record {key:?}"))).transpose()
}

impl Log for RedbLog {
    fn initialise(
        &self,
        identity: &Identity,
        snapshot: &SnapshotRecord,
        version: &VersionRecord,
        window_key: &[u8; 32],
    ) -> Result<(), LogError> {
        let txn = self.begin()?;
        {
            let mut meta = txn.open_table(META).map_err(storage)?;
            meta.insert(IDENTITY, encode(identity).as_slice()).map_err(storage)?;
            meta.insert(SNAPSHOT, encode(snapshot).as_slice()).map_err(storage)?;
            meta.insert(WINDOW_KEY, window_key.as_slice()).map_err(storage)?;
            meta.insert(OLDEST_BASE, encode(&version.version).as_slice()).map_err(storage)?;
            let mut versions = txn.open_table(VERSIONS).map_err(storage)?;
            versions.insert(version.version.0, encode(version).as_slice()).map_err(storage)?;
        }
        txn.commit().map_err(storage)
    }

    fn identity(&self) -> Result<Option<Identity>, LogError> {
        let identity: Option<Identity> = self.meta(IDENTITY)?;
        match identity {
            Some(identity) if identity.schema != SCHEMA => Err(LogError::Schema { found: identity.schema }),
            other => Ok(other),
        }
    }

    fn snapshot(&self) -> Result<SnapshotRecord, LogError> {
        self.meta(SNAPSHOT)?.ok_or_else(|| LogError::Damaged { what: "the snapshot record".into() })
    }

    fn oldest_base(&self) -> Result<ModelVersion, LogError> {
        self.meta(OLDEST_BASE)?.ok_or_else(|| LogError::Damaged { what: "the oldest base".into() })
    }

    fn window_key(&self) -> Result<[u8; 32], LogError> {
        let txn = self.db.begin_read().map_err(storage)?;
        let table = txn.open_table(META).map_err(storage)?;
        let value = table.get(WINDOW_KEY).map_err(storage)?;
        value
            .and_then(|value| value.value().try_into().ok())
            .ok_or_else(|| LogError::Damaged { what: "the window key".into() })
    }

    fn append(
        &self,
        batch: &[(DeltaId, Option<LoggedDelta>)],
        row_keys: &[(Row, RowKey)],
    ) -> Result<Vec<Option<Appended>>, LogError> {
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
            let mut keys = txn.open_table(ROW_KEYS).map_err(storage)?;
            for (row, key) in row_keys {
                keys.insert(row, key).map_err(storage)?;
            }
        }
        if written || !row_keys.is_empty() {
            txn.commit().map_err(storage)?;
        } else {
            txn.abort().map_err(storage)?;
        }
        Ok(outcomes)
    }

    fn append_changes(&self, changes: Vec<Change>) -> Result<u64, LogError> {
        let txn = self.begin()?;
        let sequence = push(&txn, &Entry::Catalogue(changes))?;
        txn.commit().map_err(storage)?;
        Ok(sequence)
    }

    // An old key is overwritten in the file's tree; redb reuses the freed page in time, so a copy may stay in
    // unused space of the file until then.
    fn publish(
        &self,
        mark: Mark,
        version: &VersionRecord,
        oldest: ModelVersion,
        window_key: &[u8; 32],
        published_rows: &[Row],
    ) -> Result<u64, LogError> {
        let txn = self.begin()?;
        let sequence = push(&txn, &Entry::Mark(mark))?;
        {
            let mut meta = txn.open_table(META).map_err(storage)?;
            meta.insert(WINDOW_KEY, window_key.as_slice()).map_err(storage)?;
            let held: Option<ModelVersion> = read_meta(&meta, OLDEST_BASE)?;
            let oldest = held.map_or(oldest, |held| held.max(oldest));
            meta.insert(OLDEST_BASE, encode(&oldest).as_slice()).map_err(storage)?;
            let mut keys = txn.open_table(ROW_KEYS).map_err(storage)?;
            for row in published_rows {
                keys.remove(row).map_err(storage)?;
            }
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

    fn set_snapshot(&self, snapshot: &SnapshotRecord) -> Result<(), LogError> {
        let txn = self.begin()?;
        {
            let mut meta = txn.open_table(META).map_err(storage)?;
            meta.insert(SNAPSHOT, encode(snapshot).as_slice()).map_err(storage)?;
            let mut log = txn.open_table(LOG).map_err(storage)?;
            log.retain_in(..=snapshot.sequence, |_, _| false).map_err(storage)?;
        }
        txn.commit().map_err(storage)
    }

    fn row_keys(&self) -> Result<Vec<(Row, RowKey)>, LogError> {
        let txn = self.db.begin_read().map_err(storage)?;
        let keys = txn.open_table(ROW_KEYS).map_err(storage)?;
        let mut all = Vec::new();
        for entry in keys.iter().map_err(storage)? {
            let (row, key) = entry.map_err(storage)?;
            all.push((row.value(), *key.value()));
        }
        Ok(all)
    }

    fn read(&self, after: u64, max: usize) -> Result<Vec<(u64, Entry)>, LogError> {
        let txn = self.db.begin_read().map_err(storage)?;
        let log = txn.open_table(LOG).map_err(storage)?;
        let mut entries = Vec::new();
        for entry in log.range(after + 1..).map_err(storage)?.take(max) {
            let (number, value) = entry.map_err(storage)?;
            let number = number.value();
            entries.push((number, decode(value.value(), || format!("log entry {number}"))?));
        }
        Ok(entries)
    }

    fn versions(&self) -> Result<Vec<VersionRecord>, LogError> {
        let txn = self.db.begin_read().map_err(storage)?;
        let versions = txn.open_table(VERSIONS).map_err(storage)?;
        let mut records = Vec::new();
        for entry in versions.iter().map_err(storage)? {
            let (number, value) = entry.map_err(storage)?;
            records.push(decode(value.value(), || format!("the record of version {}", number.value()))?);
        }
        Ok(records)
    }

    fn entries(&self) -> Result<u64, LogError> {
        let txn = self.db.begin_read().map_err(storage)?;
        txn.open_table(LOG).map_err(storage)?.len().map_err(storage)
    }

    fn last_number(&self) -> Result<Option<u64>, LogError> {
        let txn = self.db.begin_read().map_err(storage)?;
        let log = txn.open_table(LOG).map_err(storage)?;
        Ok(log.last().map_err(storage)?.map(|(number, _)| number.value()))
    }

    fn remembered_ids(&self) -> Result<u64, LogError> {
        let txn = self.db.begin_read().map_err(storage)?;
        txn.open_table(DEDUP).map_err(storage)?.len().map_err(storage)
    }
}

/// Returns the number that the next log entry gets: numbers are never used again, also when a
/// snapshot has emptied the log.
fn next_sequence(txn: &WriteTransaction, log: &redb::Table<'_, u64, &[u8]>) -> Result<u64, LogError> {
    if let Some((last, _)) = log.last().map_err(storage)? {
        return Ok(last.value() + 1);
    }
    let meta = txn.open_table(META).map_err(storage)?;
    let snapshot = meta.get(SNAPSHOT).map_err(storage)?;
    let snapshot = snapshot.ok_or_else(|| LogError::Damaged { what: "the snapshot record".into() })?;
    let snapshot: SnapshotRecord = decode(snapshot.value(), || "the snapshot record".into())?;
    Ok(snapshot.sequence + 1)
}

fn push(txn: &WriteTransaction, entry: &Entry) -> Result<u64, LogError> {
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
    postcard::to_allocvec(value).expect("a record of the log has no type that postcard refuses")
}

fn decode<T: DeserializeOwned>(bytes: &[u8], what: impl FnOnce() -> String) -> Result<T, LogError> {
    postcard::from_bytes(bytes).map_err(|_| LogError::Damaged { what: what() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> (tempfile::TempDir, RedbLog) {
        let dir = tempfile::tempdir().unwrap();
        let log = RedbLog::open(&dir.path().join(STORE_FILE)).unwrap();
        (dir, log)
    }

    #[test]
    fn the_contract_holds() {
        super::super::contract::holds(open);
    }

    #[test]
    fn a_store_of_another_schema_is_refused_as_it_is() {
        let (dir, log) = open();
        let identity = Identity { schema: 2, site: "test".into(), lineage: nearfield_engine::Lineage(7) };
        let txn = log.begin().unwrap();
        txn.open_table(META).unwrap().insert(IDENTITY, encode(&identity).as_slice()).unwrap();
        txn.commit().unwrap();
        drop(log);
        let log = RedbLog::open(&dir.path().join(STORE_FILE)).unwrap();
        let error = log.identity().unwrap_err();
        assert!(error.to_string().starts_with("the store has schema 2, this build knows 3"), "{error}");
    }

    #[test]
    fn a_second_process_is_told_that_the_store_is_in_use() {
        let (dir, _log) = open();
        let Err(error) = RedbLog::open(&dir.path().join(STORE_FILE)) else { panic!("opened twice") };
        assert!(matches!(error, LogError::InUse(_)), "{error}");
        assert!(error.to_string().contains("in use by a running server"), "{error}");
    }
}
