//! Users on disk: one redb file. Writes of many users that wait together share one transaction (group
//! commit).

use super::{Pending, Record, StoreError, Ticket, UserStore};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};

/// user id → [`Record`] as postcard.
const USERS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("users");
/// Users of whom central has yet to receive something: learnt since the last delta, or a delta
/// unsettled.
const PENDING: TableDefinition<'_, &str, ()> = TableDefinition::new("pending");
/// Most writes of one transaction (choice: bounds how long the first of a group waits).
const GROUP_MAX: usize = 1024;
/// Memory for pages of the file, in bytes (choice: users that were active lately are open in a guest anyway).
const CACHE_BYTES: usize = 64 << 20;

/// A write that waits for its transaction: a record, or the removal of one.
struct Write {
    user: String,
    number: u64,
    record: Option<Record>,
    answer: Pending,
}

#[derive(Default)]
struct Waiting {
    number: u64,
    /// The newest uncommitted write of each user; `None` is a removal.
    newest: HashMap<String, (u64, Option<Record>)>,
    /// Why a commit failed. Every write after it fails too.
    failure: Option<StoreError>,
}

/// A user store in one redb file.
pub struct RedbUsers {
    database: Arc<Database>,
    waiting: Arc<Mutex<Waiting>>,
    writes: mpsc::Sender<Write>,
}

impl RedbUsers {
    /// Opens the store, making the file if there is none.
    ///
    /// # Errors
    /// [`StoreError`] if the file cannot be opened or is not a store; nothing falls back to memory.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let database = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create(path)
            .map_err(|error| StoreError::new("open", error))?;
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
            .spawn(move || write_all(&writer.1, &queue, |group| commit(&writer.0, group)))
            .map_err(|error| StoreError::new("start its writer", error))?;
        Ok(Self { database, waiting, writes })
    }
}

impl UserStore for RedbUsers {
    fn get(&self, user: &str) -> Result<Option<Record>, StoreError> {
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

    fn put(&self, user: &str, record: Option<Record>) -> Ticket {
        let (answer, ticket) = Ticket::new();
        let mut waiting = self.waiting.lock().expect("no holder panics");
        if let Some(error) = &waiting.failure {
            answer.answer(Err(error.clone()));
            return ticket;
        }
        waiting.number += 1;
        let number = waiting.number;
        waiting.newest.insert(user.to_owned(), (number, record.clone()));
        // Sent under the lock, so that the queue holds the writes of a user in their order. Without
        // a writer the answer's sender is dropped, and the ticket says so.
        let _ = self.writes.send(Write { user: user.to_owned(), number, record, answer });
        ticket
    }

    fn pending(&self) -> Result<Vec<String>, StoreError> {
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

/// Commits what waits, a group at a time, until the store is dropped. After a commit has failed nothing is
/// committed any more: what came after it in the queue was made from records that were then refused.
fn write_all(
    waiting: &Mutex<Waiting>,
    queue: &mpsc::Receiver<Write>,
    commit: impl Fn(&[Write]) -> Result<(), redb::Error>,
) {
    while let Ok(first) = queue.recv() {
        let mut group = vec![first];
        while group.len() < GROUP_MAX {
            let Ok(next) = queue.try_recv() else { break };
            group.push(next);
        }
        let failed = waiting.lock().expect("no holder panics").failure.clone();
        let outcome = match failed {
            Some(error) => Err(error),
            None => commit(&group).map_err(|error| StoreError::new("commit", error)),
        };
        let mut waiting = waiting.lock().expect("no holder panics");
        waiting.failure = outcome.clone().err();
        for write in group {
            // A failed write leaves the overlay too: readers see what is on disk.
            if waiting.newest.get(&write.user).is_some_and(|(number, _)| *number == write.number) {
                waiting.newest.remove(&write.user);
            }
            write.answer.answer(outcome.clone());
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
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test]
    async fn the_contract_holds() {
        super::super::contract::holds(|| {
            let folder = tempfile::tempdir().unwrap();
            let store = RedbUsers::open(&folder.path().join("users.redb")).unwrap();
            (folder, store)
        })
        .await;
    }

    #[tokio::test]
    async fn a_restart_keeps_every_write_that_was_durable() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.redb");
        let record = Record { state: vec![1, 2, 3], token: Some(vec![9]), pending: true };
        let store = RedbUsers::open(&path).unwrap();
        store.put("ada", Some(record.clone())).durable().await.unwrap();
        store.put("bob", Some(Record::default())).durable().await.unwrap();
        drop(store);

        // The writer lets go of the file when its queue is gone.
        let store = (0..200)
            .find_map(|_| {
                std::thread::sleep(std::time::Duration::from_millis(10));
                RedbUsers::open(&path).ok()
            })
            .expect("the file is free within two seconds");
        assert_eq!(store.get("ada").unwrap(), Some(record));
        assert_eq!(store.pending().unwrap(), ["ada"]);
    }

    #[test]
    fn a_write_that_was_queued_behind_a_failed_one_is_not_committed() {
        let waiting = Mutex::new(Waiting::default());
        let (writes, queue) = mpsc::channel();
        let write = move |number: u8| {
            let (answer, ticket) = Ticket::new();
            let record = Some(Record { state: vec![number], ..Record::default() });
            writes.send(Write { user: "ada".to_owned(), number: number.into(), record, answer }).unwrap();
            ticket
        };
        let (begun, begins) = mpsc::channel();
        let (go_on, goes_on) = mpsc::channel();
        let commits = AtomicU32::new(0);
        let (waiting, commits) = (&waiting, &commits);
        // Only the first commit fails: the disk is sound again at once.
        let commit = move |_: &[Write]| {
            begun.send(()).unwrap();
            goes_on.recv().unwrap();
            match commits.fetch_add(1, Ordering::SeqCst) {
                0 => Err(redb::Error::DatabaseAlreadyOpen),
                _ => Ok(()),
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(move || write_all(waiting, &queue, commit));
            let refused = write(1);
            begins.recv().unwrap();
            // Its record holds what the first one's does, and the first one is under way.
            let queued = write(2);
            go_on.send(()).unwrap();
            go_on.send(()).unwrap();
            for ticket in [refused, queued] {
                let error = ticket.0.blocking_recv().unwrap().unwrap_err();
                assert!(error.to_string().starts_with("user store could not commit: "), "{error}");
            }
            drop(write);
        });
        assert_eq!(commits.load(Ordering::SeqCst), 1, "the second was never tried");
        assert!(waiting.lock().unwrap().failure.is_some(), "nor is any later one");
    }

    #[test]
    fn a_file_that_is_no_store_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.redb");
        std::fs::write(&path, b"not a database, but long enough to be looked at").unwrap();
        let error = RedbUsers::open(&path).err().unwrap();
        assert!(error.to_string().starts_with("user store could not open: "), "{error}");
    }
}
