//! Users on disk: one redb file, user id → record.
//!
//! # What is promised
//! A [`Ticket`] is answered only after the transaction that holds the write is on disk, so a batch
//! of events answered with 200 survives a crash. Writes of many users that wait together share one
//! transaction (group commit). A read sees every write before it, committed or not. Nothing is
//! promised for what was never answered.

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use tokio::sync::oneshot;

/// user id → [`Record`] as postcard.
const USERS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("users");
/// Users that have something to tell central: learnt since the last delta, or a delta unsettled.
const PENDING: TableDefinition<'_, &str, ()> = TableDefinition::new("pending");
/// Most writes of one transaction (choice: bounds how long the first of a group waits).
const GROUP_MAX: usize = 1024;

/// What is kept of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The engine's state, with its own schema version inside.
    pub state: Vec<u8>,
    /// Central's device token for this user, once there is one.
    pub token: Option<Vec<u8>>,
    /// Whether central has yet to hear something of this user.
    pub pending: bool,
}

/// Why the store failed.
#[derive(Clone, Debug)]
pub struct StoreError {
    what: &'static str,
    message: String,
}

impl StoreError {
    fn new(what: &'static str, error: impl ToString) -> Self {
        Self { what, message: error.to_string() }
    }
}

impl std::fmt::Display for StoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "user store could not {}: {}", self.what, self.message)
    }
}

impl std::error::Error for StoreError {}

/// Comes true when the write is on disk.
#[derive(Debug)]
pub struct Ticket(oneshot::Receiver<Result<(), StoreError>>);

impl Ticket {
    /// Waits until the write is on disk.
    ///
    /// # Errors
    /// [`StoreError`] if the transaction failed; nothing of it is on disk then.
    pub async fn durable(self) -> Result<(), StoreError> {
        self.0.await.unwrap_or_else(|_| Err(StoreError::new("commit", "its writer has stopped")))
    }
}

/// A write that waits for its transaction: a record, or the removal of one.
struct Write {
    user: String,
    number: u64,
    record: Option<Record>,
    answer: oneshot::Sender<Result<(), StoreError>>,
}

#[derive(Default)]
struct Waiting {
    number: u64,
    /// The newest uncommitted write of each user; `None` is a removal.
    newest: HashMap<String, (u64, Option<Record>)>,
}

/// The user store.
pub struct Store {
    database: Arc<Database>,
    waiting: Arc<Mutex<Waiting>>,
    writes: mpsc::Sender<Write>,
}

impl Store {
    /// Opens the store, making the file if there is none.
    ///
    /// # Errors
    /// [`StoreError`] if the file cannot be opened or is no store: nothing falls back to memory.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let database = Database::create(path).map_err(|error| StoreError::new("open", error))?;
        let setup = || -> Result<(), redb::Error> {
            let transaction = database.begin_write()?;
            transaction.open_table(USERS)?;
            transaction.open_table(PENDING)?;
            transaction.commit()?;
            Ok(())
        };
        setup().map_err(|error| StoreError::new("set up its tables", error))?;

        let database = Arc::new(database);
        let waiting = Arc::new(Mutex::new(Waiting::default()));
        let (writes, queue) = mpsc::channel();
        let writer = (Arc::clone(&database), Arc::clone(&waiting));
        std::thread::Builder::new()
            .name("nearfield-store".to_owned())
            .spawn(move || write_all(&writer.0, &writer.1, &queue))
            .map_err(|error| StoreError::new("start its writer", error))?;
        Ok(Self { database, waiting, writes })
    }

    /// Returns what is kept of a user, every write before this call included.
    ///
    /// # Errors
    /// [`StoreError`] if the file cannot be read or the record is damaged.
    pub fn get(&self, user: &str) -> Result<Option<Record>, StoreError> {
        if let Some((_, record)) = self.waiting.lock().expect("no holder panics").newest.get(user) {
            return Ok(record.clone());
        }
        let read = || -> Result<Option<Vec<u8>>, redb::Error> {
            let table = self.database.begin_read()?.open_table(USERS)?;
            Ok(table.get(user)?.map(|bytes| bytes.value().to_vec()))
        };
        let bytes = read().map_err(|error| StoreError::new("read", error))?;
        bytes
            .map(|bytes| {
                postcard::from_bytes(&bytes).map_err(|error| StoreError::new("decode a record", error))
            })
            .transpose()
    }

    /// Queues a record, or with `None` a removal, and returns the ticket of its transaction.
    pub fn put(&self, user: &str, record: Option<Record>) -> Ticket {
        let (answer, ticket) = oneshot::channel();
        let mut waiting = self.waiting.lock().expect("no holder panics");
        waiting.number += 1;
        let number = waiting.number;
        waiting.newest.insert(user.to_owned(), (number, record.clone()));
        // Sent under the lock, so that the queue holds the writes of a user in their order. Without
        // a writer the answer's sender is dropped, and the ticket says so.
        let _ = self.writes.send(Write { user: user.to_owned(), number, record, answer });
        Ticket(ticket)
    }

    /// Returns the users that central has yet to hear something of, as of the last commit.
    ///
    /// # Errors
    /// [`StoreError`] if the file cannot be read.
    pub fn pending(&self) -> Result<Vec<String>, StoreError> {
        let read = || -> Result<Vec<String>, redb::Error> {
            let table = self.database.begin_read()?.open_table(PENDING)?;
            let mut users = Vec::new();
            for entry in table.iter()? {
                users.push(entry?.0.value().to_owned());
            }
            Ok(users)
        };
        read().map_err(|error| StoreError::new("list its pending users", error))
    }
}

/// Commits what waits, a group at a time, until the store is dropped.
fn write_all(database: &Database, waiting: &Mutex<Waiting>, queue: &mpsc::Receiver<Write>) {
    while let Ok(first) = queue.recv() {
        let mut group = vec![first];
        while group.len() < GROUP_MAX {
            let Ok(next) = queue.try_recv() else { break };
            group.push(next);
        }
        let outcome = commit(database, &group).map_err(|error| StoreError::new("commit", error));
        let mut waiting = waiting.lock().expect("no holder panics");
        for write in group {
            // A failed write leaves the overlay too: readers see what is on disk.
            if waiting.newest.get(&write.user).is_some_and(|(number, _)| *number == write.number) {
                waiting.newest.remove(&write.user);
            }
            let _ = write.answer.send(outcome.clone());
        }
    }
}

fn commit(database: &Database, group: &[Write]) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut users = transaction.open_table(USERS)?;
        let mut pending = transaction.open_table(PENDING)?;
        for write in group {
            let user = write.user.as_str();
            match &write.record {
                Some(record) => {
                    let bytes = postcard::to_allocvec(record).expect("a record holds only bytes");
                    users.insert(user, bytes.as_slice())?;
                }
                None => {
                    users.remove(user)?;
                }
            }
            if write.record.as_ref().is_some_and(|record| record.pending) {
                pending.insert(user, ())?;
            } else {
                pending.remove(user)?;
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_read_sees_the_write_before_it_and_a_restart_keeps_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.redb");
        let record = Record { state: vec![1, 2, 3], token: Some(vec![9]), pending: true };
        let store = Store::open(&path).unwrap();
        assert_eq!(store.get("ada").unwrap(), None);
        let ticket = store.put("ada", Some(record.clone()));
        assert_eq!(store.get("ada").unwrap(), Some(record.clone()));
        ticket.durable().await.unwrap();
        store.put("bob", Some(Record::default())).durable().await.unwrap();
        drop(store);

        // The writer lets go of the file when its queue is gone.
        let store = (0..200)
            .find_map(|_| {
                std::thread::sleep(std::time::Duration::from_millis(10));
                Store::open(&path).ok()
            })
            .expect("the file is free within two seconds");
        assert_eq!(store.get("ada").unwrap(), Some(record));
        assert_eq!(store.pending().unwrap(), ["ada"]);
        store.put("ada", None).durable().await.unwrap();
        assert_eq!(store.get("ada").unwrap(), None);
        assert_eq!(store.pending().unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_file_that_is_no_store_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.redb");
        std::fs::write(&path, b"not a database, but long enough to be looked at").unwrap();
        let error = Store::open(&path).err().unwrap();
        assert!(error.to_string().starts_with("user store could not open: "), "{error}");
    }
}
