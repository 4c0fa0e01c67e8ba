//! The log in one redb file: entries, dedup ids, published versions and the window key.
//!
//! A delta, its dedup id and its log position commit in one transaction, which is on disk when the
//! call returns. A failed commit leaves the file as it was before.

use super::entry::{Change, Entry, Mark, SnapshotRecord, VersionRecord};
use super::{Appended, Candidate, Identity, Log, LogError, Marked, RowKey, SCHEMA};
use crate::durable;
use nearfield_engine::{ModelVersion, Row};
use redb::{
    Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, Table, TableDefinition, TableHandle,
    WriteTransaction,
};
use serde::{Serialize, de::DeserializeOwned};
use std::collections::HashMap;
use std::collections::hash_map::Entry as MapEntry;
use std::path::Path;

/// Name of the log's file within the data directory.
pub const STORE_FILE: &str = "store.redb";

/// Facts about the whole store, and the window key.
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
/// Sequence number → [`Entry`], from 1.
const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log");
/// Tables of delta ids, one for each hour of uptime: an id stands in that of its base version, so that ids
/// are forgotten by the table.
const IDS: &str = "ids/";
/// Version → [`VersionRecord`]; the first is the oldest that a delta may be based on.
const VERSIONS: TableDefinition<u64, &[u8]> = TableDefinition::new("versions");
/// Row → its [`RowKey`], while it waits for devices.
const ROW_KEYS: TableDefinition<u32, &RowKey> = TableDefinition::new("row_keys");

const IDENTITY: &str = "identity";
const SNAPSHOT: &str = "snapshot";
const WINDOW_KEY: &str = "window_key";

const HOUR_MS: u64 = 3_600_000;

/// Memory for pages of the file, in bytes (choice: the ids of an hour at 1,000 deltas a second).
const CACHE_BYTES: usize = 128 << 20;

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
        let db =
            Database::builder().set_cache_size(CACHE_BYTES).create(path).map_err(|error| match error {
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
        let builder = Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(backend);
        Self::set_up(builder.map_err(storage)?)
    }

    /// Makes the tables that are not there.
    fn set_up(db: Database) -> Result<Self, LogError> {
        let log = Self { db };
        let txn = log.begin()?;
        txn.open_table(META).map_err(storage)?;
        txn.open_table(LOG).map_err(storage)?;
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
        let txn = self.db.begin_read().map_err(storage)?;
        let versions = txn.open_table(VERSIONS).map_err(storage)?;
        let oldest = versions.first().map_err(storage)?;
        oldest
            .map(|(version, _)| ModelVersion(version.value()))
            .ok_or_else(|| LogError::Damaged { what: "the table of versions".into() })
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
        batch: &[Candidate],
        row_keys: &[(Row, RowKey)],
    ) -> Result<Vec<Option<Appended>>, LogError> {
        let txn = self.begin()?;
        let mut outcomes = Vec::with_capacity(batch.len());
        let mut written = false;
        {
            let mut log = txn.open_table(LOG).map_err(storage)?;
            let mut ids = Ids::of(&txn)?;
            let mut next = next_sequence(&txn, &log)?;
            for Candidate { id, base_version, delta } in batch {
                let table = ids.by_base(*base_version)?;
                if let Some(table) = &table
                    && table.get(&id.0).map_err(storage)?.is_some()
                {
                    outcomes.push(Some(Appended::Duplicate));
                    continue;
                }
                let Some(delta) = delta else {
                    outcomes.push(None);
                    continue;
                };
                let table = table.ok_or_else(|| LogError::Damaged { what: version_name(*base_version) })?;
                table.insert(&id.0, ()).map_err(storage)?;
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
        keep_ms: u64,
        window_key: &[u8; 32],
        published_rows: &[Row],
    ) -> Result<Marked, LogError> {
        let txn = self.begin()?;
        let number = push(&txn, &Entry::Mark(mark))?;
        let (oldest_base, passed) = {
            let mut meta = txn.open_table(META).map_err(storage)?;
            meta.insert(WINDOW_KEY, window_key.as_slice()).map_err(storage)?;
            let mut keys = txn.open_table(ROW_KEYS).map_err(storage)?;
            for row in published_rows {
                keys.remove(row).map_err(storage)?;
            }
            let mut versions = txn.open_table(VERSIONS).map_err(storage)?;
            versions.insert(version.version.0, encode(version).as_slice()).map_err(storage)?;
            forget(&mut versions, version.uptime_ms.saturating_sub(keep_ms))?
        };
        for hour in passed {
            let name = ids_name(hour);
            txn.delete_table(TableDefinition::<&[u8; 16], ()>::new(&name)).map_err(storage)?;
        }
        txn.commit().map_err(storage)?;
        Ok(Marked { number, oldest_base })
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

    fn version(&self, version: ModelVersion) -> Result<Option<VersionRecord>, LogError> {
        let txn = self.db.begin_read().map_err(storage)?;
        read_version(&txn.open_table(VERSIONS).map_err(storage)?, version)
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
        let mut ids = 0;
        for table in txn.list_tables().map_err(storage)?.filter(|table| table.name().starts_with(IDS)) {
            let table = TableDefinition::<&[u8; 16], ()>::new(table.name());
            ids += txn.open_table(table).map_err(storage)?.len().map_err(storage)?;
        }
        Ok(ids)
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

/// The tables of delta ids, as far as one transaction needs them.
struct Ids<'txn> {
    txn: &'txn WriteTransaction,
    versions: Table<'txn, u64, &'static [u8]>,
    /// Hour of each base version that was asked for, `None` for one that is not kept.
    hours: HashMap<ModelVersion, Option<u64>>,
    tables: HashMap<u64, Table<'txn, &'static [u8; 16], ()>>,
}

impl<'txn> Ids<'txn> {
    fn of(txn: &'txn WriteTransaction) -> Result<Self, LogError> {
        let versions = txn.open_table(VERSIONS).map_err(storage)?;
        Ok(Self { txn, versions, hours: HashMap::new(), tables: HashMap::new() })
    }

    /// Returns the ids of deltas on a version and on those of the same hour, `None` where it is not kept.
    fn by_base(
        &mut self,
        base: ModelVersion,
    ) -> Result<Option<&mut Table<'txn, &'static [u8; 16], ()>>, LogError> {
        let hour = match self.hours.get(&base) {
            Some(hour) => *hour,
            None => {
                let hour = read_version(&self.versions, base)?.map(|record| record.uptime_ms / HOUR_MS);
                self.hours.insert(base, hour);
                hour
            }
        };
        let Some(hour) = hour else { return Ok(None) };
        Ok(Some(match self.tables.entry(hour) {
            MapEntry::Occupied(open) => open.into_mut(),
            MapEntry::Vacant(vacant) => {
                vacant.insert(self.txn.open_table(TableDefinition::new(&ids_name(hour))).map_err(storage)?)
            }
        }))
    }
}

/// Removes the versions whose successor was published before `since_ms`; returns the oldest that is left,
/// and the hours that are over.
fn forget(
    versions: &mut Table<'_, u64, &'static [u8]>,
    since_ms: u64,
) -> Result<(ModelVersion, Vec<u64>), LogError> {
    let mut gone = Vec::new();
    let mut oldest: Option<VersionRecord> = None;
    for entry in versions.iter().map_err(storage)? {
        let (number, value) = entry.map_err(storage)?;
        let record: VersionRecord = decode(value.value(), || version_name(ModelVersion(number.value())))?;
        if record.uptime_ms >= since_ms && oldest.is_some() {
            break;
        }
        gone.extend(oldest.replace(record));
    }
    let oldest = oldest.ok_or_else(|| LogError::Damaged { what: "the table of versions".into() })?;
    versions.retain_in(..oldest.version.0, |_, _| false).map_err(storage)?;
    let mut hours: Vec<u64> = gone.iter().map(|record| record.uptime_ms / HOUR_MS).collect();
    hours.dedup();
    hours.retain(|hour| *hour < oldest.uptime_ms / HOUR_MS);
    Ok((oldest.version, hours))
}

fn read_version(
    versions: &impl ReadableTable<u64, &'static [u8]>,
    version: ModelVersion,
) -> Result<Option<VersionRecord>, LogError> {
    let value = versions.get(version.0).map_err(storage)?;
    value.map(|value| decode(value.value(), || version_name(version))).transpose()
}

fn ids_name(hour: u64) -> String {
    format!("{IDS}{hour}")
}

fn version_name(version: ModelVersion) -> String {
    format!("the record of version {version}")
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
        let identity = Identity { schema: 3, site: "test".into(), lineage: nearfield_engine::Lineage(7) };
        let txn = log.begin().unwrap();
        txn.open_table(META).unwrap().insert(IDENTITY, encode(&identity).as_slice()).unwrap();
        txn.commit().unwrap();
        drop(log);
        let log = RedbLog::open(&dir.path().join(STORE_FILE)).unwrap();
        let error = log.identity().unwrap_err();
        assert!(error.to_string().starts_with("the store has schema 3, this build knows 4"), "{error}");
    }

    #[test]
    fn a_second_process_is_told_that_the_store_is_in_use() {
        let (dir, _log) = open();
        let Err(error) = RedbLog::open(&dir.path().join(STORE_FILE)) else { panic!("opened twice") };
        assert!(matches!(error, LogError::InUse(_)), "{error}");
        assert!(error.to_string().contains("in use by a running server"), "{error}");
    }
}
